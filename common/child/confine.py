"""Gives up writing and needless system calls, then becomes the program named behind it.  Standard library only.

``python confine.py PROGRAM …``.  The sandbox's mounts do not cover what a descriptor reaches: a file handed over
read-only can be opened again for writing through ``/proc/self/fd``, since bubblewrap's ``nobody`` is its owner to the
kernel.  Landlock judges every opening by path, also this one.  So nothing can be written but beneath the folders in
``HANSA_WRITABLE``; that holds for every thread and child from here on, hence before anything else is imported.

Source:
    Linux, Documentation/userspace-api/landlock.rst; ABI 3 (Linux 6.2) also covers truncation.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import struct
import sys

NEEDED_ABI = 3
WRITABLE = "HANSA_WRITABLE"
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION, _BENEATH = 1, 1
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_CHANGES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))  # all but reading, running, ioctl
_PR_SET_NO_NEW_PRIVS = 38


def abi() -> int:
    """Return the version of Landlock that this kernel has switched on; 0 for none."""
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def confine(folders: list[str]) -> None:
    """Make everything unwritable for this process but what is beneath ``folders``.

    Raises:
        OSError: the kernel refuses.
    """
    libc = _libc()
    ruleset = _checked(libc.syscall(_CREATE, struct.pack("=Q", _CHANGES), ctypes.c_size_t(8), ctypes.c_uint32(0)))
    for folder in folders:
        _allow(libc, ruleset, folder, _CHANGES)
    _allow(libc, ruleset, "/dev", _WRITE_FILE | _TRUNCATE)
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT, ruleset, ctypes.c_uint32(0)))
    os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, folder: str, access: int) -> None:
    fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        _checked(libc.syscall(_ADD, ruleset, _BENEATH, struct.pack("=Qi", access, fd), ctypes.c_uint32(0)))
    finally:
        os.close(fd)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


if __name__ == "__main__":
    if abi() >= NEEDED_ABI:
        confine(os.environ.pop(WRITABLE, "/tmp").split(os.pathsep))  # noqa: S108 the sandbox's own
    runpy.run_path(__file__.removesuffix("confine.py") + "syscalls.py")["refuse"]()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
