"""``hansa simulate DIR``: the same app, all its nodes in one child process, no coordinator.

The child is started by path with ``python -I``, so that nothing in the app's folder can stand in for ours.  It prints
one JSON object a line on stdout; what the app prints goes to stderr.
"""

from __future__ import annotations


def simulate() -> None:
    pass
