"""The typed REST client: what the command line, notebooks and tests speak to a coordinator with."""

from common.client.client import Client

__all__ = ["Client"]
