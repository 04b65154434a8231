"""The floor of a round: the same bytes over mTLS gRPC streams, plus one memory-bound fold per update.

No files, no digests, no checks, no journal, no children: a server process streams a model to K client processes, each
streams the same number of bytes back, and the server adds each chunk to one float32 accumulator as it comes.  Plain
synchronous gRPC with raw 1 MiB chunks and reused buffers, the fastest shape we know (notes in docs/architecture.md).

``measure(nodes, mib, rounds, env)`` returns the median seconds of a round and its CPU seconds, the first left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np

from common.crypto.keys import new_p256, private_pem
from common.crypto.x509 import Authority, issue_node_cert, load_ca, make_ca, make_csr, server_cert
from common.units import CHUNK, MIB, WINDOW
from common.wire.memory import keep_chunks
from common.wire.methods import raw

_DOWN, _UP = "/floor/Down", "/floor/Up"
_OPTIONS = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW),  # as the link's own streams have it
    ("grpc.max_receive_message_length", 2 * MIB),
]


def measure(nodes: int, mib: float, rounds: int = 6, env: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Return the median seconds, and the CPU, in which ``nodes`` clients get ``mib`` MiB each and send as much back."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.bench.rounds_floor", folder, str(nodes), str(mib), str(rounds)]
        _credentials(Path(folder))
        done = subprocess.run(
            command, env={**os.environ, **(env or {})}, cwd=Path(__file__).parents[2], check=True, capture_output=True
        )
    took, cpu = json.loads(done.stdout.splitlines()[-1])
    return took, cpu


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process has used, 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _credentials(folder: Path) -> None:
    now = time.time()  # noqa: TID251 - a benchmark's own process
    ca: Authority = load_ca(*make_ca("floor", now=now))
    key, certificate = server_cert(ca, ["localhost"], now=now)
    node = new_p256()
    issued = issue_node_cert(ca, make_csr(node), "floor", "node_0", 1, 3600, now)
    files = {"ca": ca.pem, "key": key, "cert": certificate, "node.key": private_pem(node), "node.cert": issued}
    for name, data in files.items():
        (folder / name).write_bytes(data)


class _Model:
    """The broadcast bytes, and the accumulator they come back into."""

    def __init__(self, size: int) -> None:
        self.values = np.random.default_rng(0).standard_normal(size // 4).astype(np.float32)
        self.sum, self.lock = np.zeros_like(self.values), threading.Lock()

    def down(self, _request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        view = memoryview(self.values).cast("B")
        for at in range(0, len(view), CHUNK):
            yield bytes(view[at : at + CHUNK])

    def up(self, chunks: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
        at = 0
        for chunk in chunks:
            part = np.frombuffer(chunk, np.float32)
            with self.lock:
                self.sum[at : at + len(part)] += part
            at += len(part)
        return b"ok"


def _serve(folder: Path, nodes: int, size: int, rounds: int) -> tuple[float, float]:
    model = _Model(size)
    server = grpc.server(futures.ThreadPoolExecutor(nodes + 2), options=_OPTIONS)
    handlers = {
        "Down": grpc.unary_stream_rpc_method_handler(model.down, raw, raw),
        "Up": grpc.stream_unary_rpc_method_handler(model.up, raw, raw),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor", handlers),))
    own = (folder / "key").read_bytes(), (folder / "cert").read_bytes()
    credentials = grpc.ssl_server_credentials([own], (folder / "ca").read_bytes(), require_client_auth=True)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    command = [sys.executable, "-m", "tests.bench.rounds_floor", str(folder), "client", str(port), str(size)]
    clients = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(nodes)]
    pids = [os.getpid(), *(client.pid for client in clients)]
    took, used = [], []
    try:
        for client in clients:  # connected and warm
            assert client.stdout is not None
            client.stdout.readline()
        for _ in range(rounds):
            began = time.perf_counter()
            for client in clients:
                assert client.stdin is not None
                client.stdin.write(b"\n")
                client.stdin.flush()
            for client in clients:
                assert client.stdout is not None
                client.stdout.readline()
            took.append(time.perf_counter() - began)
            used.append(sum(map(cpu_s, pids)))
            model.sum[:] = 0
    finally:
        for client in clients:
            assert client.stdin is not None
            client.stdin.close()
            client.wait(30)
        server.stop(0)
    return statistics.median(took[1:]), (used[-1] - used[0]) / (rounds - 1)


def _client(folder: Path, port: str, size: int) -> None:
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca").read_bytes(), (folder / "node.key").read_bytes(), (folder / "node.cert").read_bytes()
    )
    buffer = bytearray(size)
    with grpc.secure_channel(f"localhost:{port}", credentials, options=_OPTIONS) as channel:
        down, up = channel.unary_stream(_DOWN, raw, raw), channel.stream_unary(_UP, raw, raw)
        grpc.channel_ready_future(channel).result(30)
        print("ready", flush=True)
        for _ in sys.stdin:
            at = 0
            for chunk in down(b""):
                buffer[at : at + len(chunk)] = chunk
                at += len(chunk)
            view = memoryview(buffer)
            up(bytes(view[at : at + CHUNK]) for at in range(0, size, CHUNK))
            print("done", flush=True)


def main(argv: list[str]) -> None:
    """Run as server or client process of one measurement."""
    folder = Path(argv[0])
    keep_chunks()  # as the link's own processes do: both sides of the comparison get their memory in the same way
    if argv[1] == "client":
        _client(folder, argv[2], int(argv[3]))
        return
    size = max(int(float(argv[2]) * MIB) // 4 * 4, 4)
    print(json.dumps(_serve(folder, int(argv[1]), size, int(argv[3]))))


if __name__ == "__main__":
    main(sys.argv[1:])
