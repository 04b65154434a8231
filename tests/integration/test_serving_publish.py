"""A job's result, or a model from elsewhere, becomes a signed version."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import safetensors.numpy

from common.errors import BadInput, BadUpdate
from common.ids import Digest, JobId
from common.tensors.packed import unpack
from coordinator.domain.exchanges import Exchange, ExchangeKind, Reply
from coordinator.services.ending import clean_up
from tests.integration.publishing import ADMIN, ALPHA, CLINIC, HOSPITAL, World
from tests.integration.served_models import constant_linear

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(tmp_path: Path):
    made = World(tmp_path)
    await made.settle()
    yield made
    await made.store.close()


async def test_a_result_becomes_a_signed_version_with_a_graph_and_packed_weights(world):
    version = await world.publish(await world.job(weights="fp16"))
    assert (version.version, version.servable, version.round) == (1, True, 3)
    manifest = await world.manifest(version)
    assert (manifest.job, manifest.federation, manifest.round, manifest.cohort) == ("job_1", "fed", 3, 2)
    assert manifest.metrics == {"loss": 0.5}
    assert [(t.name, t.dtype, t.shape) for t in manifest.tensors] == [
        ("arrays/weight", "F32", (8, 16)), ("arrays/bias", "F32", (16,)),
    ]  # fmt: skip
    weights = safetensors.numpy.load(
        (await world.blobs.open(ALPHA, Digest(manifest.blobs["weights"].digest))).read_bytes()
    )
    np.testing.assert_array_equal(weights["arrays/bias"], np.arange(16))
    packed = unpack(await world.blobs.get_bytes(ALPHA, Digest(manifest.blobs["packed"].digest), limit=1 << 20))
    options = ort.SessionOptions()
    options.add_external_initializers(list(packed), [ort.OrtValue.ortvalue_from_numpy(w) for w in packed.values()])
    graph = await world.blobs.get_bytes(ALPHA, Digest(manifest.blobs["graph"].digest), limit=1 << 20)
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones((2, 8), np.float32)})
    np.testing.assert_allclose(y, np.tile(8 + np.arange(16), (2, 1)), rtol=1e-3)
    alias = await world.store.read(lambda tx: tx.models.alias(ALPHA, "risk", "latest"))
    assert (alias.version, alias.generation) == (1, 1)
    assert world.logged == ["model_exported", "version_published"]


async def test_publishing_the_same_job_and_round_again_is_the_same_version(world):
    job = await world.job()
    first = await world.publish(job)
    path, digest, size = world.result()
    path.unlink()  # its blob is there, the file need not be
    assert await world.publisher.publish(job, 3, path, digest, size, {}, 2) == first
    assert len(await world.store.read(lambda tx: tx.models.versions(ALPHA, "risk"))) == 1


async def test_each_version_names_the_one_before_as_its_parent(world):
    job = await world.job(factory="")
    versions = [await world.publish(job, n, float(n)) for n in (1, 2, 3)]
    manifests = [await world.manifest(v) for v in versions]
    assert [m.parent for m in manifests] == ["", versions[0].manifest, versions[1].manifest]
    assert [m.version for m in manifests] == [1, 2, 3]


async def test_concurrent_publishers_never_both_win(world):
    jobs = [await world.job(f"job_{n}", factory="") for n in range(6)]
    versions = await asyncio.gather(*(world.publish(job, 1, float(n)) for n, job in enumerate(jobs)))
    assert sorted(v.version for v in versions) == [1, 2, 3, 4, 5, 6]
    alias = await world.store.read(lambda tx: tx.models.alias(ALPHA, "risk", "latest"))
    assert (alias.version, alias.generation) == (6, 6)
    by_number = {v.version: v for v in versions}
    for version in versions:
        before = by_number.get(version.version - 1)
        assert (await world.manifest(version)).parent == (before.manifest if before else "")


async def test_the_same_result_published_twice_at_once_is_one_version(world):
    job = await world.job(factory="")
    first, second = await asyncio.gather(world.publish(job), world.publish(job))
    assert first == second
    await world.manifest(first)  # and its manifest is there


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("export_it:raises", "app_raised"),
        ("export_it:missing", "component_not_found"),
        ("export_it:custom", "bad_input"),
    ],
)
async def test_a_failed_export_costs_the_serving_and_not_the_version(world, factory, reason):
    version = await world.publish(await world.job(factory=factory))
    assert not version.servable
    assert set((await world.manifest(version)).blobs) == {"weights"}
    (entry,) = [
        e for e in await world.store.read(lambda tx: tx.jobs.log_since(JobId("job_1"), 0)) if e.event == "export_failed"
    ]
    assert entry.facts["reason"] == reason


async def test_a_result_that_is_no_object_is_refused(world):
    job = await world.job(factory="")
    path, _, _ = world.result()
    path.write_bytes(b"x" * 100)
    digest = Digest(hashlib.sha256(b"x" * 100).hexdigest())
    with pytest.raises(BadUpdate):
        await world.publisher.publish(job, 1, path, digest, 100, {}, 1)
    assert await world.store.read(lambda tx: tx.models.versions(ALPHA)) == []


async def test_an_onnx_model_from_elsewhere_is_imported_exactly(world, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(constant_linear(2.5, size=40))
    version = await world.publisher.import_model(ADMIN, ALPHA, "bought", "onnx", path)
    manifest = await world.manifest(version)
    assert (version.servable, manifest.source, manifest.packing_error, manifest.packing) == (
        True,
        "import",
        0.0,
        "fp32",
    )
    alias = await world.store.read(lambda tx: tx.models.alias(ALPHA, "bought", "latest"))
    assert (alias.version, alias.moved_by) == (1, "ada")


async def test_safetensors_from_elsewhere_are_kept_byte_for_byte(world, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": np.ones((2, 3), np.float16)}, {"by": "them"}))
    version = await world.publisher.import_model(ADMIN, ALPHA, "weights", "safetensors", path)
    manifest = await world.manifest(version)
    assert not version.servable
    stored = await world.blobs.open(ALPHA, Digest(manifest.blobs["weights"].digest))
    assert stored.read_bytes() == path.read_bytes()
    assert [(t.name, t.dtype, t.shape) for t in manifest.tensors] == [("w", "F16", (2, 3))]


@pytest.mark.parametrize("fmt", ["onnx", "safetensors", "pickle"])
@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", os.urandom(1000)])
async def test_an_import_of_noise_is_bad_input_and_leaves_no_version(world, tmp_path, fmt, data):
    path = tmp_path / "noise"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        await world.publisher.import_model(ADMIN, ALPHA, "noise", fmt, path)
    assert await world.store.read(lambda tx: tx.models.versions(ALPHA)) == []


CRASH = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.integration.publishing import World
async def main():
    world = World(Path(sys.argv[1]))
    await world.store.acquire_epoch()
    job = await world.store.read(lambda tx: tx.jobs.get("job_1"))
    await world.publish(job)
asyncio.run(main())
"""


async def test_a_crash_between_manifest_and_alias_leaves_no_version_and_the_next_try_makes_one(world):
    job = await world.job(factory="")
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", CRASH.format(root=root), str(world.folder)],
        env=os.environ | {"HANSA_FAILPOINT": "manifest_written_before_alias"},
    )
    assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL
    await world.store.acquire_epoch()
    assert await world.store.read(lambda tx: tx.models.versions(ALPHA)) == []
    version = await world.publish(job)
    assert version.version == 1
    assert replace(await world.manifest(version), metrics={}).round == 3


async def test_a_reply_that_is_a_published_model_to_the_byte_outlives_its_job(world):
    job = await world.job(factory="")
    version = await world.publish(job)
    weights = Digest((await world.manifest(version)).blobs["weights"].digest)
    mean, own = await world.blobs.put_bytes(ALPHA, b"mean"), await world.blobs.put_bytes(ALPHA, b"own")
    replies = (Reply(0, HOSPITAL, weights, 1), Reply(1, CLINIC, own, 3), Reply(2, None, mean, 4))
    row = Exchange(job.id, 1, ExchangeKind.EXCHANGE, False, (), 0.0, 1.0, replies)
    around = SimpleNamespace(
        store=world.store, blobs=world.blobs, link=world.wires, settings=SimpleNamespace(jobs_dir=world.folder / "jobs")
    )
    await clean_up(around, job, [row], ())
    assert [await world.blobs.exists(ALPHA, each) for each in (weights, own, mean)] == [True, False, False]
