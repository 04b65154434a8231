"""What tenant code in the sandbox can see and do: nothing of the host's, of its parent's or of other jobs'."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import SandboxUnavailable
from common.sandbox import ChildSpec, SandboxMode, available, launch
from tests.apps.play import APPS, PYTHON, begin, message

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not available()[0], reason=f"no bubblewrap: {available()[1]}"),
]
ROOT = Path(__file__).resolve().parents[2]


def config_object(values: dict[str, Any], path: Path) -> tuple[int, int]:
    blob = 2 << 20  # larger than what a child reads at once, so that it keeps the file open
    listing = json.dumps({"records": [["facts", "config", values], ["blob", "array", ["x"]]]})
    tensor = {"dtype": "U8", "shape": [blob], "data_offsets": [0, blob]}
    header = json.dumps({"__metadata__": {"hansa": listing}, "blob/x": tensor}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(blob)
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY), len(data)


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process of the same user outside the sandbox, with a secret in its environment."""
    process = subprocess.Popen(["/bin/sleep", "60"], env={"SECRET": "key"}, start_new_session=True)
    yield process.pid
    process.kill()
    process.wait()


async def test_every_probe_is_blocked(tmp_path: Path, bystander: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_TOKEN", "secret")
    app = tmp_path / "job" / "app"
    shutil.copytree(APPS / "escape", app)
    secret = tmp_path / "job" / "node.key"
    secret.write_text("private")
    name = f"hansa-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        facts = {
            "outside_pid": bystander, "secret": str(secret), "port": server.getsockname()[1], "abstract": name,
            "platform": str(ROOT / "common" / "sandbox" / "launch.py"), "home": True,
        }  # fmt: skip
        child = await begin(app, "client", "escape:client", SandboxMode.BWRAP)
        try:
            assert (await child.receive(60))[0] == {"op": "ready"}
            fd, size = config_object(facts, tmp_path / "job" / "instruction")
            await child.send(message("query", size), [fd])
            os.close(fd)
            frame, fds = await child.receive(60)
        finally:
            await child.end()
    assert frame["op"] == "reply", frame
    records = _records(fds[0])
    assert {name: said for name, said in records["got"].items() if not said.startswith("blocked")} == {}
    assert len(records["got"]) == 42
    inside = records["inside"]
    assert (inside["uid"], int(inside["capabilities"], 16), inside["no_new_privileges"]) == (65534, 0, "1")
    assert inside["interfaces"] in {"", "lo"}
    assert inside["processes"] <= 3
    assert inside["descriptors"] <= 6  # three standard ones, the socket, the object, the listing itself
    for forbidden in ("HANSA", "TOKEN", "SECRET", "AWS", "PYTEST"):
        assert forbidden not in inside["environment"]
    assert not (app / "evil.py").exists()
    assert (tmp_path / "job" / "instruction").stat().st_size == size
    assert b"evil" not in (tmp_path / "job" / "instruction").read_bytes()


def _records(fd: int) -> dict[str, dict[str, Any]]:
    size = int.from_bytes(os.pread(fd, 8, 0), "little")
    table = json.loads(os.pread(fd, size, 8))
    os.close(fd)
    return {name: values for name, _, values in json.loads(table["__metadata__"]["hansa"])["records"]}


PARENT = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from tests.apps.play import *

async def main():
    child = await begin(APPS / "hostile", "client", "hostile:client", SandboxMode({mode!r}), run_config={{"act": "loop"}})
    await child.receive(60)
    fd = os.memfd_create("o")
    from tests.integration.test_child_hostile import model_object
    fd, size = model_object()
    await child.send(message("train", size), [fd])
    print(*[pid for pid in process_tree(os.getpid()) if pid != os.getpid()], flush=True)
    await asyncio.sleep(600)

from common.sandbox.limits import process_tree
asyncio.run(main())
"""


@pytest.mark.parametrize("mode", list(SandboxMode))
def test_a_busy_child_dies_with_a_killed_parent(mode: SandboxMode) -> None:
    script = PARENT.format(root=str(ROOT), mode=mode.value)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in pids if _runs(pid)] == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_program_of_its_own_gets_a_listening_socket_and_no_other_network(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(
        "import socket, sys\n"
        "listener = socket.socket(fileno=int(sys.argv[2]))\n"
        "try:\n"
        "    socket.create_connection(listener.getsockname(), 1)\n"
        "    answer = b'reached'\n"
        "except OSError:\n"
        "    answer = b'alone'\n"
        "connection, _ = listener.accept()\n"
        "connection.sendall(answer)\n"
        "connection.close()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        spec = ChildSpec(
            "inference", PYTHON, None, script=script, pass_fds=(listener.fileno(),), args=(str(listener.fileno()),)
        )
        child = await launch(spec, SandboxMode.BWRAP)
        try:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            assert await asyncio.wait_for(reader.read(), 30) == b"alone"
            writer.close()
        finally:
            await child.end()


async def test_writable_and_readonly_paths_are_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    (tmp_path / "out").mkdir()
    (tmp_path / "hidden").mkdir()
    script = tmp_path / "try.py"
    script.write_text(
        "import os, sys\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "said = [open('data.csv').read()]\n"
        "for path in ('data.csv', 'out/x', 'hidden/x', 'new'):\n"
        "    try:\n"
        "        open(path, 'w').write('x'); said.append('wrote ' + path)\n"
        "    except OSError: pass\n"
        "print(said)\n"
    )
    log = tmp_path / "log"
    spec = ChildSpec(
        "probe", PYTHON, None, script=script, log_path=log,
        readonly=(tmp_path / "data.csv",), writable=(tmp_path / "out",),
    )  # fmt: skip
    child = await launch(spec, SandboxMode.BWRAP)
    await child.end(grace=20)
    # What lies between is the sandbox's own: writing there reaches nobody.
    assert log.read_text() == "['1,2', 'wrote out/x', 'wrote new']\n"
    assert (tmp_path / "out" / "x").read_text() == "x"
    assert (tmp_path / "data.csv").read_text() == "1,2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "hidden", "log", "out", "try.py"]


CHARACTERS = [path for path in ("/dev/fuse", "/dev/kvm", "/dev/net/tun") if os.access(path, os.R_OK | os.W_OK)]


@pytest.mark.skipif(not CHARACTERS, reason="no device file here that may be opened and is harmless")
async def test_a_device_file_can_be_used_where_it_was_granted_and_is_not_there_where_it_was_not(tmp_path: Path) -> None:
    script = tmp_path / "use.py"
    script.write_text(
        "import fcntl, os\n"
        "try:\n"
        f"    fd = os.open({CHARACTERS[0]!r}, os.O_RDWR)\n"
        "    fcntl.ioctl(fd, 0x5401)\n"  # of terminals: the driver itself refuses, so it was reached
        "except OSError as error:\n"
        "    print(os.strerror(error.errno), flush=True)\n"
    )
    for devices in ((Path(CHARACTERS[0]),), ()):
        spec = ChildSpec(
            "probe", PYTHON, None, script=script, log_path=tmp_path / f"log{len(devices)}", devices=devices
        )
        child = await launch(spec, SandboxMode.BWRAP)
        await child.end(grace=20)
    assert (tmp_path / "log0").read_text() == "No such file or directory\n"
    assert (tmp_path / "log1").read_text() in {"Inappropriate ioctl for device\n", "Invalid argument\n"}


async def test_without_landlock_a_child_gets_a_copy_of_what_it_is_handed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.sandbox import process

    monkeypatch.setattr(process, "children_cannot_write", lambda: False)
    original = tmp_path / "original"
    original.write_bytes(b"instruction")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, socket, sys\n"
        "sock = socket.socket(fileno=int(sys.argv[1]))\n"
        "_, fds, _, _ = socket.recv_fds(sock, 1000, 1)\n"
        "print(os.pread(fds[0], 100, 0), os.readlink(f'/proc/self/fd/{fds[0]}').split()[0])\n"
    )
    child = await launch(ChildSpec("probe", PYTHON, None, script=script, log_path=tmp_path / "log"), SandboxMode.BWRAP)
    fd = os.open(original, os.O_RDONLY)
    await child.send({"op": "take"}, [fd])
    os.close(fd)
    await child.end(grace=20)
    assert (tmp_path / "log").read_text() == "b'instruction' /memfd:copy\n"


async def test_a_host_without_bubblewrap_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from common.sandbox import bubblewrap

    monkeypatch.setattr(bubblewrap, "usable", lambda: (False, "bubblewrap (bwrap) is not installed"))
    with pytest.raises(SandboxUnavailable, match="not installed") as refused:
        await launch(ChildSpec("client", PYTHON, None), SandboxMode.BWRAP)
    assert 'sandbox = "none"' in refused.value.next_step
