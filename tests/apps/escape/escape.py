"""Probes that try to leave the sandbox; each returns what it got, or raises.  Answers in a ConfigRecord."""

# ruff: noqa: PTH208
import ctypes
import os
import signal
import socket
import subprocess
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

client = ClientApp()
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
PTRACE_ATTACH = 16


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)
        if kind == socket.SOCK_DGRAM:
            sock.send(b"x")
    return "connected"


def rewrite_what_was_handed_over():
    """A read-only descriptor of a file can be opened again by the file's owner, which we are to the kernel."""
    found = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and Path(f"/proc/self/fd/{fd}").is_file()]
    if not found:
        return "nothing was handed over"
    with Path(f"/proc/self/fd/{found[0]}").open("r+b") as file:
        return file.write(b"evil")


def probes(facts):
    outside, secret, port = facts["outside_pid"], facts["secret"], facts["port"]
    return {
        "read shadow": lambda: Path("/etc/shadow").read_text(),
        "read passwd": lambda: Path("/etc/passwd").read_text(),
        "read a file beside the app": lambda: Path(secret).read_text(),
        "read a home": lambda: next(Path("/root").glob(".bash*")).read_text() if facts["home"] else 1 / 0,
        "read the platform's code": lambda: Path(facts["platform"]).read_text(),
        "write into the app": lambda: Path(__file__).with_name("evil.py").write_text("x"),
        "write into the interpreter": lambda: Path(os.__file__).with_name("evil.py").write_text("x"),
        "write into the child's code": lambda: Path("/hansa/common/child/evil.py").write_text("x"),
        "make a folder at the root": lambda: Path("/evil").mkdir(),
        "remount": lambda: checked(libc.mount(b"none", b"/", b"none", 32, None)),
        "connect to a local port": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
        "connect outside": lambda: connect(socket.AF_INET, ("1.1.1.1", 443)),
        "send udp outside": lambda: connect(socket.AF_INET, ("1.1.1.1", 53), socket.SOCK_DGRAM),
        "connect to an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + facts["abstract"]),
        "resolve a name": lambda: socket.getaddrinfo("example.org", 80),
        "read another's environment": lambda: Path(f"/proc/{outside}/environ").read_bytes(),
        "signal another": lambda: os.kill(outside, 0),
        "signal the parent's group": lambda: os.killpg(outside, signal.SIGTERM),
        "trace another": lambda: checked(libc.ptrace(PTRACE_ATTACH, outside, 0, 0)),
        "make a user namespace": lambda: checked(libc.unshare(CLONE_NEWUSER)),
        "become root": lambda: os.setuid(0),
        "change the host's name": lambda: socket.sethostname("evil"),
        "make a device": lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)),
        "read kernel memory": lambda: Path("/dev/mem").open("rb").read(1),
        "write a kernel setting": lambda: Path("/proc/sys/kernel/core_pattern").write_text("core"),
        "steer an interrupt": lambda: next(Path("/proc/irq").glob("*/smp_affinity")).write_text("3"),
        "press a magic key": lambda: Path("/proc/sysrq-trigger").write_text("h"),
        "read a process's secrets by its root": lambda: os.listdir(f"/proc/{outside}/root"),
        "rewrite what was handed over": rewrite_what_was_handed_over,
        "cut what was handed over": lambda: os.truncate(f"/proc/self/fd/{facts['handed']}", 0),
        "raise a hard limit": lambda: __import__("resource").setrlimit(2, (-1, -1)),
        "open a ring": lambda: checked(libc.syscall(425, 8, bytes(120))),
        "load a kernel program": lambda: checked(libc.syscall(321, 5, bytes(120), 120)),
        "count events": lambda: checked(libc.syscall(298, bytes(120), 0, -1, -1, 0)),
        "handle faults": lambda: checked(libc.syscall(323, 1)),
        "use a keyring": lambda: checked(libc.syscall(250, 0, -3, 1)),
        "trace a child": lambda: checked(libc.ptrace(0, 0, 0, 0)),
        "talk to the hypervisor": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "use the kernel's ciphers": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
        "read raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "call by the other table": lambda: checked(libc.syscall(0x40000000 + 39)),
        "keep a process behind": lambda: subprocess.run(["/usr/bin/su"], check=True, capture_output=True),
    }


def facts_inside():
    status = Path("/proc/self/status").read_text()
    field = {line.split(":")[0]: line.split(":")[1].strip() for line in status.splitlines() if ":" in line}
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    return {
        "uid": os.getuid(),
        "capabilities": field["CapEff"],
        "no_new_privileges": field["NoNewPrivs"],
        "environment": " ".join(sorted(os.environ)),
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "descriptors": len(fds),
        "interfaces": " ".join(name for _, name in socket.if_nameindex()),
        "shm_is_mine": bool(Path("/dev/shm/x").write_text("x")),
    }


@client.query()
def query(msg: Message, context: Context):
    got = {}
    facts = dict(msg.content["facts"].items())
    facts["handed"] = max(int(fd) for fd in os.listdir("/proc/self/fd")[:-1])
    for name, probe in probes(facts).items():
        try:
            got[name] = f"SUCCEEDED {probe()!r}"[:200]
        except BaseException as error:  # noqa: BLE001
            got[name] = f"blocked {type(error).__name__}"
    return Message(RecordDict({"got": ConfigRecord(got), "inside": ConfigRecord(facts_inside())}), reply_to=msg)
