"""What an app's process claims to rest on the last mean: taken only if it does, and made whole where it must be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from common.child.frames import object_header
from common.errors import AppFailed
from common.ids import Digest
from coordinator.services.collect import Kept
from coordinator.services.objects import HeldObject, made_whole, rest

VALUES = np.arange(6, dtype=np.float32)
LISTING = '{"records":[["arrays","array",["w"]]]}'


def memory(data: bytes) -> int:
    fd = os.memfd_create("object")
    os.write(fd, data)
    return fd


def header(count: int = 6, **metadata: str) -> bytes:
    return object_header([("arrays/w", "F32", (count,), 4 * count)], {"hansa": LISTING, **metadata})


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def mean() -> Iterator[Kept]:
    data = header(more="than the instruction needs") + VALUES.tobytes()
    kept = Kept(Digest(hashlib.sha256(data).hexdigest()), len(data), memory(data))
    yield kept
    os.close(kept.fd)


def held(data: bytes) -> HeldObject:
    return HeldObject(memory(data), len(data), Digest(hashlib.sha256(data).hexdigest()))


def test_an_object_that_rests_on_the_mean_offers_both_files(mean: Kept) -> None:
    (one,) = rest([held(header(base=mean.digest))], [mean.digest], mean)
    assert one.content().signature() == (("arrays/w", "F32", (6,)),)
    files = [one.file(digest) for digest in (one.digest, mean.digest, "0" * 64)]
    assert [path and path.stat().st_size for path in files] == [one.size, mean.size, None]
    one.close()
    os.fstat(mean.fd)  # closing the one leaves the mean open


def test_it_is_made_whole_as_an_ordinary_safetensors_file(mean: Kept, tmp_path: Path) -> None:
    (one,) = rest([held(header(base=mean.digest))], [mean.digest], mean)
    whole = made_whole(one, tmp_path)
    one.close()
    data = os.pread(whole.fd, whole.size, 0)
    whole.close()
    np.testing.assert_array_equal(load(data)["arrays/w"], VALUES)
    assert hashlib.sha256(data).hexdigest() == whole.digest
    assert b"base" not in data
    assert list(tmp_path.iterdir()) == []


def test_an_object_of_its_own_stays_what_it_is(tmp_path: Path) -> None:
    one = held(header() + VALUES.tobytes())
    assert rest([one], None, None) == [one] == rest([one], [None], None)
    whole = made_whole(one, tmp_path)
    assert (whole.digest, whole.size) == (one.digest, one.size)
    one.close()
    assert os.pread(whole.fd, 8, 0) == header()[:8]
    whole.close()


@pytest.mark.parametrize(
    ("data", "bases"),
    [
        (header(base="MEAN"), ["0" * 64]),  # another mean than the last
        (header(base="MEAN"), ["MEAN", "MEAN"]),
        (header(base="MEAN"), "MEAN"),
        (header(base="MEAN"), [7]),
        (header(base="0" * 64), ["MEAN"]),  # it says itself that it rests on another
        (header(), ["MEAN"]),
        (header(count=5, base="MEAN"), ["MEAN"]),  # it does not cover the data
        (header(count=7, base="MEAN"), ["MEAN"]),
        (header(base="MEAN") + VALUES.tobytes(), ["MEAN"]),  # data of its own
        (b"", ["MEAN"]),
        (b"\xff" * 40, ["MEAN"]),
    ],
)
def test_a_false_claim_is_a_typed_failure_and_nothing_stays_open(mean: Kept, data: bytes, bases: object) -> None:
    before = open_files()
    claim = [mean.digest if name == "MEAN" else name for name in bases] if isinstance(bases, list) else bases
    if b"MEAN" in data:
        rows = data[8 : 8 + int.from_bytes(data[:8], "little")].replace(b"MEAN", mean.digest.encode()).strip()
        data = len(rows).to_bytes(8, "little") + rows + data[8 + int.from_bytes(data[:8], "little") :]
    with pytest.raises(AppFailed) as failed:
        rest([held(data)], claim, mean)
    assert failed.value.reason == "protocol_error"
    assert open_files() == before


def test_nothing_may_rest_on_a_mean_before_there_is_one() -> None:
    with pytest.raises(AppFailed):
        rest([held(header(base="0" * 64))], ["0" * 64], None)
