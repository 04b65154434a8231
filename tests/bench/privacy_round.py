"""A masked round on real files: one node's part and the coordinator's, beside the same round plain."""

from __future__ import annotations

import hashlib
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from client_node.privacy.session import Floor, Session
from client_node.privacy.unmasking import Masked, answer, check_survivors
from client_node.services.masked_file import ReplyFile, Sent
from common.privacy.layout import Layout, Tensor
from common.privacy.protocol import Subject, make_roster
from common.privacy.quantize import Encoding
from common.tensors.content import build_header, read_content
from coordinator.aggregation.verify import judge
from coordinator.rounds.masked import MaskedAttempt
from coordinator.services.collect import fold_files
from coordinator.services.masked_fold import MaskedSum, SentOut, masked_mean
from tests.masked_cohort import sign, verify, verify_advert

MIB = 1 << 20


def timed(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of ``work``."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def whole_round(params: int, nodes: int, folder: Path, repeats: int) -> dict[str, float]:
    """Time a round's work on real files: one node's part and the coordinator's, masked and plain."""
    rng = np.random.default_rng(0)
    sent = rng.normal(size=params).astype(np.float32)
    row = [("arrays", "w", "F32", (params,), 4 * params)]
    head = build_header([("arrays", "array"), ("metrics", "metric")], row, {"metrics": {"num-examples": 100}}, {})
    instruction = folder / "sent"
    instruction.write_bytes(head + sent.tobytes())
    replies = []
    for at in range(nodes):
        change = rng.normal(size=params).astype(np.float32) * np.float32(0.01)
        replies.append(folder / f"reply{at}")
        replies[-1].write_bytes(head + (sent + change).tobytes())
    sounds = [judge(_content(path), arrays=True, max_weight=1e9) for path in replies]
    layout = Layout("arrays", (Tensor("w", "F32", (params,)),), "metrics", (("num-examples", -1),))
    encoding = Encoding(32, nodes, 4, 8)
    dice = random.Random(3)
    names = [f"node_{at:04d}" for at in range(nodes)]
    subject = Subject("job", 1, 1, "c" * 64, "d" * 64)
    sessions = {n: Session(subject, n, "t", Floor(), dice.randbytes) for n in names}
    roster = make_roster(
        subject, [s.advertise("e" * 64, 4, 8, n.encode(), lambda x, n=n: sign(n, x)) for n, s in sessions.items()]
    )
    attempt = MaskedAttempt(roster, 3)
    for name in names:
        shared = sessions[name].join(roster, verify_advert)
        attempt.shared(name, shared.sealed, shared.commitment)
    attempt.advance()
    keys = {n: sessions[n].deliver(attempt.sharers, d) for n, d in attempt.deliveries().items()}
    for name in names:
        attempt.sent(name, "0" * 64)
    attempt.advance()
    masked = {n: Masked(roster, n, attempt.sharers, keys[n].held) for n in names}
    for name in names:
        attempt.signed(name, sign(name, check_survivors(masked[name], attempt.survivors, Floor())))
    attempt.advance()
    for name in names:
        attempt.answered(name, answer(masked[name], attempt.survivors, attempt.signatures, verify))
    attempt.advance()
    files = []
    for name, reply in zip(names, replies, strict=True):
        files.append(folder / f"{name}.masked")
        with ReplyFile(reply, Sent(instruction), arrays=True) as file:
            file.masked_to(files[-1], encoding, b"r" * 16, keys[name])

    def node_masked() -> None:
        with ReplyFile(replies[0], Sent(instruction), arrays=True) as file:
            file.largest_change()
            file.masked_to(folder / "again", encoding, b"r" * 16, keys[names[0]])

    def node_plain() -> None:
        digest, buffer = hashlib.sha256(), bytearray(MIB)
        with replies[0].open("rb") as source, (folder / "again").open("wb") as target:
            while count := source.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
                target.write(memoryview(buffer)[:count])

    def written(parts: object) -> None:
        digest = hashlib.sha256()
        with (folder / "mean").open("wb") as out:
            for part in parts:  # type: ignore[attr-defined]
                digest.update(part)
                out.write(part)

    def server_masked(pool: ThreadPoolExecutor) -> None:
        fd = instruction.open("rb")
        task = MaskedSum(files, layout, encoding, attempt.opening(), SentOut(fd.fileno(), _content(instruction)))
        with masked_mean(task, pool) as (_, parts):
            written(parts)
        fd.close()

    def server_plain(pool: ThreadPoolExecutor) -> None:
        target = folder / "plain"
        target.unlink(missing_ok=True)
        fold_files(list(zip(replies, sounds, strict=True)), target, MIB, pool)

    found: dict[str, list[float]] = {}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(repeats):
            for name, work in (
                ("node_plain_s", node_plain),
                ("node_masked_s", node_masked),
                ("server_plain_s", lambda: server_plain(pool)),
                ("server_masked_s", lambda: server_masked(pool)),
            ):
                found.setdefault(name, []).append(timed(work, 1))
    out = {name: min(times) for name, times in found.items()}
    out["upload_bytes_per_parameter"] = files[0].stat().st_size / params
    return out


def _content(path: Path) -> object:
    with path.open("rb") as file:
        return read_content(file.fileno(), path.stat().st_size)
