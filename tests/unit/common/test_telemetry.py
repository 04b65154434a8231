"""Nothing secret reaches a log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import numpy as np
import pytest
import structlog

from common.crypto.keys import new_p256, private_pem
from common.crypto.tokens import make_api_token, make_join_token
from common.telemetry import REDACTED, configure, redact


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level, structlog.get_config()
    configure(style="json", stream=stream)
    yield stream
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    structlog.configure(**before[2])


def test_a_line_is_one_json_object_with_its_facts(sink: io.StringIO) -> None:
    structlog.get_logger().bind(job="job_1").info("round_aggregated", round=3)
    line = json.loads(sink.getvalue())
    assert (line["event"], line["job"], line["round"], line["level"]) == ("round_aggregated", "job_1", 3, "info")
    assert line["timestamp"].endswith("Z")


def test_foreign_loggers_go_the_same_way(sink: io.StringIO) -> None:
    logging.getLogger("a.library").warning("hat1_tok_1.%s", "x" * 43)
    line = json.loads(sink.getvalue())
    assert line["level"] == "warning"
    assert "xxx" not in line["event"]


def test_canary_secrets_never_reach_the_sink(sink: io.StringIO) -> None:
    join, (_, secret, api) = make_join_token("acme", "0" * 64), make_api_token()
    pem = private_pem(new_p256()).decode()
    log = structlog.get_logger()
    log.info("tried", token=api, nested={"deep": [{"text": f"used {join.text} here"}]}, key=new_p256())
    log.info("failed", error=ValueError(f"bad {api}"), body=pem.encode(), text=pem, update=np.ones(3))
    try:
        raise RuntimeError(f"token {join.text}")
    except RuntimeError:
        log.exception("crashed")
    written = sink.getvalue()
    for canary in (api, secret, join.text, join.secret, pem.splitlines()[1], "1., 1."):
        assert canary not in written
    assert written.count(REDACTED) >= 6


@pytest.mark.parametrize("name", ["secret", "token", "Authorization", "key_pem", "client_secret", "password", "seed"])
def test_values_of_telling_names_are_redacted(name: str) -> None:
    assert redact(None, "", {name: "value"})[name] == REDACTED


def test_long_text_is_cut() -> None:
    assert len(redact(None, "", {"text": "x" * 100_000})["text"]) <= 4096
