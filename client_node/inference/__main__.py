"""Entry of the inference process: ``python -s -P -B …/client_node/inference/__main__.py FD LISTENING_FD``.

Started by the agent in a sandbox.  It opens no socket: it accepts on the one it inherited, and talks to the agent on
the other.  It sees this package and ``common`` read-only, and nothing of the node: no key, no data, no credentials.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:  # `-P` leaves out the script's folder, and an editable install lies outside site-packages
    sys.path.insert(0, ROOT)

import uvicorn

from client_node.inference.app import Application, ServerLimits
from client_node.inference.control import Control
from client_node.inference.engine import Engine
from client_node.serving.catalogue import Catalogue
from common.child import frames


def main(argv: list[str]) -> int:
    """Serve until the agent hangs up."""
    agent = socket.socket(fileno=int(argv[1]))
    listener = socket.socket(fileno=int(argv[2]))
    agent.setblocking(True)
    got = frames.receive(agent)
    if got is None:
        return 0
    start, _ = got
    limits = ServerLimits(**start.get("limits", {}))
    catalogue: Catalogue[Engine] = Catalogue()
    pool = ThreadPoolExecutor(max_workers=max(1, int(start.get("workers", 2))), thread_name_prefix="engine")
    application = Application(
        catalogue, limits, pool, str(start.get("release", "")), str(start.get("token_sha256", ""))
    )
    control = Control(agent, catalogue, limits.threads)
    server = uvicorn.Server(_config(application))

    async def serve() -> None:
        control.start(asyncio.get_running_loop())
        control.tell({"op": "ready"})
        await control.opened.wait()  # until then clients wait in the kernel's queue, none is told "not found"
        gc.freeze()  # what is loaded now lives for ever: no collection need look at it
        gc.set_threshold(100_000, 20, 50)  # JSON makes thousands of short-lived lists a request, never a cycle
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())
    return 0


def _config(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http="httptools",
        loop="auto",
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        backlog=2048,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
