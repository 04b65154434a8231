"""An app that needs what its environment does not have."""

import tensorflow_of_another_world  # noqa: F401
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()
