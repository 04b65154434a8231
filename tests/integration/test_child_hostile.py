"""Each way in which an app can go wrong or attack its parent ends in its typed reason, and leaves no process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from common.errors import AppFailed
from common.sandbox import Child, Limits, SandboxMode, available
from tests.apps.play import APPS, begin, message

pytestmark = pytest.mark.integration
BOXED = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE
APP = APPS / "hostile"
SMALL = Limits(memory_mib=400, processes=40)
OBJECT = "hansa-test-object"


def model_object() -> tuple[int, int]:
    """Return an object with record arrays = [zeros(3)], written by hand."""
    listing = '{\\"records\\":[[\\"arrays\\",\\"array\\",[\\"0\\"]]]}'
    header = (
        f'{{"__metadata__":{{"hansa":"{listing}"}},"arrays/0":{{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}}}'
    ).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(12)
    fd = os.memfd_create(OBJECT)
    os.write(fd, data)
    return fd, len(data)


async def ask(child: Child, timeout: float = 30.0) -> tuple[dict[str, Any], list[int]]:
    fd, size = model_object()
    try:
        await child.send(message("train", size), [fd])
        return await child.receive(timeout)
    finally:
        os.close(fd)


async def client(act: str, mode: SandboxMode = BOXED, **facts: Any) -> Child:
    child = await begin(APP, "client", "hostile:client", mode, limits=SMALL, run_config={"act": act}, **facts)
    frame, _ = await child.receive(60)
    assert frame == {"op": "ready"}
    return child


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("act", "reason", "said"),
    [
        ("os_exit", "app_exited", "exit code 4"),
        ("exit_zero", "app_exited", "exit code 0"),
        ("segfault", "app_crashed", "SIGSEGV"),
        ("abort", "app_crashed", "SIGABRT"),
        ("kill", "app_killed", "SIGKILL"),
        ("memory", "app_memory", "400 MiB are allowed"),
        ("memfds", "app_memory", "400 MiB are allowed"),
        ("forks", "app_killed", "40 are allowed"),
        ("oversized", "protocol_error", "over the limit"),
        ("not_json", "protocol_error", "must be JSON"),
        ("not_object", "protocol_error", "JSON object"),
        ("deep", "protocol_error", "must be JSON"),
        ("file", "protocol_error", "no memfd"),
        ("no_fd", "protocol_error", "announces 1 objects and brings 0"),
        ("many_fds", "protocol_error", "announces 0 objects and brings 200"),
        ("strange", "protocol_error", "announced with 'all of it' bytes has 100"),
    ],
)
async def test_a_child_that_ends_or_lies_is_ended_with_the_reason(act: str, reason: str, said: str) -> None:
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    child = await client(act)
    with pytest.raises(AppFailed, match=said) as failed:
        await ask(child)
    assert failed.value.reason == reason
    await child.end()
    assert not alive(child.pid)
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 1  # asyncio keeps its own


async def test_a_torn_frame_is_a_death_in_the_middle_of_it() -> None:
    child = await client("torn")
    with pytest.raises(AppFailed) as failed:
        await ask(child)
    assert failed.value.reason == "app_exited"


async def test_a_child_in_an_endless_loop_is_killed_at_its_time() -> None:
    child = await client("loop")
    with pytest.raises(AppFailed, match=r"within 0\.5 s") as failed:
        await ask(child, timeout=0.5)
    assert failed.value.reason == "app_timeout"
    assert not alive(child.pid)


@pytest.mark.parametrize(
    ("act", "reason", "said"),
    [
        ("raise", "app_raised", "ZeroDivisionError"),
        ("exit", "app_exited", "sys.exit(3)"),
        ("import", "app_raised", "a_module_that_nobody_has"),
        ("not_a_message", "bad_reply", "must return a Message, not dict"),
    ],
)
async def test_an_exception_is_an_error_and_the_warm_child_goes_on(act: str, reason: str, said: str) -> None:
    child = await client(act)
    try:
        for _ in range(2):
            frame, _fds = await ask(child)
            assert (frame["op"], frame["reason"], frame["code"]) == ("error", reason, 2)
            assert said in frame["message"]
            assert "hostile.py" in frame["traceback"] or act == "not_a_message"
    finally:
        await child.end()


async def test_a_child_that_prints_100_mb_fills_its_log_to_the_limit_and_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = await begin(
        APP, "client", "hostile:client", BOXED, limits=Limits(log_bytes=5000), log=log, run_config={"act": "print"}
    )
    try:
        await child.receive(60)
        frame, fds = await ask(child, 60)
        assert frame["op"] == "reply"
        for fd in fds:
            os.close(fd)
    finally:
        await child.end()
    assert 5000 <= log.stat().st_size < 5200
    assert log.read_bytes().endswith(b"what follows was dropped]\n")


async def test_the_last_words_of_a_dying_child_are_in_the_reason(tmp_path: Path) -> None:
    child = await client("segfault")
    with pytest.raises(AppFailed, match=r"(?s)last words: .*hostile.py"):
        await ask(child)


async def test_a_missing_import_is_named() -> None:
    child = await begin(APPS / "missing", "client", "missing_app:client", BOXED)
    frame, _ = await child.receive(60)
    assert (frame["op"], frame["reason"]) == ("failed", "missing_imports")
    assert "tensorflow_of_another_world" in frame["message"]
    await child.end()


@pytest.mark.parametrize("component", ["hostile:nothing", "nowhere:client"])
async def test_a_component_that_is_not_there_is_named(component: str) -> None:
    child = await begin(APP, "client", component, BOXED)
    frame, _ = await child.receive(60)
    assert (frame["op"], frame["reason"]) == ("failed", "component_not_found")
    assert component.split(":")[component.startswith("hostile")] in frame["message"]
    await child.end()


async def test_an_unknown_role_is_refused() -> None:
    child = await begin(APP, "emperor", "hostile:client", BOXED)
    assert (await child.receive(60))[0]["reason"] == "protocol_error"
    await child.end()


async def test_an_app_cannot_swallow_the_refusal_of_an_exchange() -> None:
    child = await begin(APP, "server", "hostile:server", BOXED, run_config={"act": "", "server-act": "swallow_refusal"})
    try:
        assert (await child.receive(60))[0]["op"] == "ready"
        while (frame := (await child.receive(30))[0])["op"] == "nodes":
            await child.send({"op": "nodes", "ids": [1, 2]})
        assert frame["op"] == "exchange"
        await child.send({"op": "refused", "reason": "refused", "message": "policy forbids plaintext updates"})
        frame, _ = await child.receive(30)
        assert (frame["op"], frame["reason"]) == ("failed", "refused")
        assert frame["message"] == "policy forbids plaintext updates"
    finally:
        await child.end()
