"""The command line that puts a child into its own namespaces with bubblewrap.

Rules (each one blocks an attack that was tried, see ``tests/integration/test_child_escapes.py``):
    1. All namespaces are new: no network, no other process, no abstract sockets, no System V IPC.
    2. The user is ``nobody`` without capabilities, and may not make a user namespace, where it would be root.
    3. Only system libraries, the job's Python, our child's code, the app and declared files are there, read-only.
    4. The environment is empty but for a short list; the session is new, so that no terminal can be written to.
    5. Everything ends with its parent.

Inside them ``confine.py`` gives up writing (Landlock) and system calls that no app needs (seccomp).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from common.units import MIB

CHILD = Path(__file__).resolve().parents[1] / "child"
INSIDE = Path("/hansa")  # where the child's code is in the sandbox
NOBODY = "65534"
PROBE_TIMEOUT_S = 10.0
_FLAGS = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL",
    "--die-with-parent", "--new-session", "--clearenv", "--hostname", "hansa",
)  # fmt: skip
# Under a coordinator or agent that runs as root, ``nobody`` inside is root outside when the kernel compares file
# owners: without this, a child could write ``/proc/sys/kernel/core_pattern`` and so run its program as root.
_SEALED = ("--remount-ro", "/proc", "--remount-ro", "/")
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")


@functools.lru_cache(maxsize=1)
def usable() -> tuple[bool, str]:
    """Return whether bubblewrap works on this host, else why not."""
    path = shutil.which("bwrap")
    if path is None:
        return False, "bubblewrap (bwrap) is not installed"
    command = [path, *_FLAGS, *_filesystem(64 * MIB), *_SEALED, "/bin/true"]
    try:
        result = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"bubblewrap does not start: {error}"
    said = result.stderr.decode(errors="replace").strip()
    return result.returncode == 0, said or "" if result.returncode == 0 else f"bubblewrap is refused here: {said}"


def command(
    argv: list[str],
    *,
    readonly: list[Path],
    writable: list[Path],
    devices: list[Path],
    variables: dict[str, str],
    tmp_bytes: int,
) -> list[str]:
    """Return ``argv`` wrapped in bubblewrap.

    Args:
        argv: The program and its arguments, in paths of the sandbox (which are the host's).
        readonly: Host paths to show under the same path.
        writable: Host folders that may be written to.
        devices: Device files that the child may use.
        variables: The whole environment.
        tmp_bytes: Size of each of its private ``/tmp`` and ``/dev/shm``.
    """
    line = [shutil.which("bwrap") or "bwrap", *_FLAGS, *_filesystem(tmp_bytes)]
    for device in devices:
        line += ["--dev-bind", str(device), str(device)]
    # Outer folders first, so that a bind never hides an inner one.
    binds = [(path, "--ro-bind") for path in readonly] + [(path, "--bind") for path in writable]
    for path, flag in sorted(set(binds), key=lambda bind: (len(bind[0].parts), str(bind[0]), bind[1] == "--bind")):
        line += [flag, str(path), str(path)]
    line += ["--ro-bind", str(CHILD), str(INSIDE / "common" / "child")]
    line += ["--ro-bind", str(CHILD.parent / "__init__.py"), str(INSIDE / "common" / "__init__.py")]
    for name, value in variables.items():
        line += ["--setenv", name, value]
    return [*line, *_SEALED, "--chdir", "/tmp", "--", *argv]  # noqa: S108 its own private one


def _filesystem(tmp_bytes: int) -> list[str]:
    line = ["--ro-bind", "/usr", "/usr"]
    for folder in _SYSTEM:
        if os.path.islink(folder):
            line += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            line += ["--ro-bind", folder, folder]
    for path in _ETC:
        line += ["--ro-bind-try", path, path]
    line += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 private ones
        line += ["--size", str(tmp_bytes), "--tmpfs", folder]
    return line
