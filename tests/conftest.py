"""What every test gets: real servers by name, a fixed Hypothesis profile, and a world of its own."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.leftovers import processes, processes_that_stay
from tests.servers import fixtures
from tests.servers.fixtures import minio_server, moto_server, postgres_server, postgres_url
from tests.servers.install import Missing

__all__ = ["minio_server", "moto_server", "postgres_server", "postgres_url"]

# No deadline: a busy machine is no error. CI tries the same examples every time; a developer's runs look for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("dev", deadline=None, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Started in the background, we ignore Ctrl-C and so would every process that a test starts and means to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _a_world_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A developer's own login, failpoint or coordinator reaches no test; nothing of a test outlives it."""
    base = tmp_path_factory.getbasetemp()
    before = processes(base)  # whoever started us may name it too: pytest --basetemp
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("HANSA_") and n != "HANSA_REQUIRE_SERVERS"]:
            patch.delenv(name)
        patch.setenv("HANSA_CONTEXT", str(base / "no-context.json"))
        # Who is killed removes no temporary folder: all are in pytest's, which keeps the last three runs.
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t")))
        patch.setattr(tempfile, "tempdir", os.environ["TMPDIR"])
        patch.chdir(tmp_path_factory.mktemp("here"))  # apps write where they stand: not into the checkout
        yield
    assert processes_that_stay(base, before) == {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """All tests that one missing server skips are one line at the end, wherever they are."""
    report = yield
    if report.skipped and call.excinfo is not None and isinstance(call.excinfo.value.__cause__, Missing):
        report.longrepr = (fixtures.__file__, fixtures.need.__code__.co_firstlineno, f"Skipped: {call.excinfo.value}")
    return report
