"""``python -P -m client_node``: the agent, as ``hansa node run`` without the command line's other parts."""

from __future__ import annotations

from client_node.app import run
from client_node.services.node_dir import node_dir

if __name__ == "__main__":
    run(node_dir(None))
