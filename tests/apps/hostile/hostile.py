"""What a hostile or broken app may do; ``act`` in its configuration names which."""

import ctypes
import os
import socket
import struct
import sys
import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


def parent_socket() -> socket.socket:
    for fd in range(3, 64):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if sock.family == socket.AF_UNIX:
            return sock
    raise SystemExit(9)


def frame(body: bytes, fds=()) -> None:
    sock = parent_socket()
    data = struct.pack(">I", len(body)) + body
    socket.send_fds(sock, [data[:1]], list(fds))
    sock.sendall(data[1:])


def unsealed() -> int:
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x" * 100)
    return fd


def swallow() -> None:
    held = []
    while True:
        held.append(bytearray(b"x" * (16 << 20)))
        time.sleep(0.001)


def swallow_memfds() -> None:
    while True:
        fd = os.memfd_create("x")
        for _ in range(16):
            os.write(fd, b"x" * (1 << 20))


def fork_on() -> None:
    while True:
        try:
            if os.fork() == 0:
                time.sleep(60)
        except OSError:
            time.sleep(0.01)


def print_much() -> None:
    for _ in range(100):
        sys.stdout.write("y" * (1 << 20) + "\n")


def spin() -> None:
    while True:
        pass


ACTS = {
    "raise": lambda: 1 / 0,
    "exit": lambda: sys.exit(3),
    "os_exit": lambda: os._exit(4),
    "exit_zero": lambda: os._exit(0),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), 9),
    "loop": spin,
    "memory": swallow,
    "memfds": swallow_memfds,
    "forks": fork_on,
    "print": print_much,
    "import": lambda: __import__("a_module_that_nobody_has"),
    "oversized": lambda: parent_socket().sendall(struct.pack(">I", 1 << 31)),
    "torn": lambda: (parent_socket().sendall(b"\0\0\1\0{"), os._exit(0)),
    "not_json": lambda: frame(b"{]"),
    "not_object": lambda: frame(b"[]"),
    "deep": lambda: frame(b"[" * 100_000),
    "file": lambda: frame(b'{"op":"reply","object":100,"state":null}', [os.open("/proc/self/exe", os.O_RDONLY)]),
    "no_fd": lambda: frame(b'{"op":"reply","object":100,"state":null}'),
    "many_fds": lambda: frame(b'{"op":"reply","object":null,"state":null}', [unsealed()] * 200),
    "strange": lambda: frame(b'{"op":"reply","object":"all of it","state":null}', [unsealed()]),
}


@client.train()
def train(msg: Message, context: Context):
    act = context.run_config["act"]
    arrays = msg.content["arrays"].to_numpy_ndarrays()
    if act in ACTS:
        ACTS[act]()
    if act == "nan":
        arrays[0][:] = np.nan
    if act == "shape":
        arrays[0] = np.zeros((7, 7), np.float32)
    if act == "not_a_message":
        return {"arrays": arrays}
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=msg)


@server.main()
def main(grid: Grid, context: Context) -> None:
    act = context.run_config.get("server-act")
    if act in ACTS:
        ACTS[act]()
    if act == "wait_for_ever":
        FedAvg(min_available_nodes=10_000).start(grid, ArrayRecord([np.zeros(3, np.float32)]), num_rounds=1)
    if act == "swallow_refusal":
        try:
            FedAvg().start(grid, ArrayRecord([np.zeros(3, np.float32)]), num_rounds=1)
        except BaseException:  # noqa: BLE001
            return
    FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord([np.zeros(3, np.float32)]), num_rounds=1)
