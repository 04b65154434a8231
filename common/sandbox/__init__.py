"""Starts and watches children, for both sides."""

from common.sandbox.environment import missing_imports, missing_imports_async
from common.sandbox.launch import ChildSpec, SandboxMode, available, launch
from common.sandbox.limits import Limits
from common.sandbox.process import Child
from common.sandbox.seals import check_memory, check_sealed

__all__ = [
    "Child",
    "ChildSpec",
    "Limits",
    "SandboxMode",
    "available",
    "check_memory",
    "check_sealed",
    "launch",
    "missing_imports",
    "missing_imports_async",
]
