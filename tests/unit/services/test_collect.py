"""What a fold that fails leaves behind: nothing."""

import errno
from types import SimpleNamespace

import pytest

from coordinator.services import collect
from coordinator.services.collect import Collector


async def test_a_fold_that_runs_out_of_disk_leaves_its_room_free(tmp_path, monkeypatch):
    def full(updates, target, *_):
        target.write_bytes(b"half a model")
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(collect, "fold_files", full)
    settings = SimpleNamespace(update_bytes=1 << 30, inline_bytes=0, block_bytes=1 << 20)
    collector = Collector(SimpleNamespace(work_dir=lambda: tmp_path), settings)
    with pytest.raises(OSError, match="no room"):
        await collector.fold("acme", [(tmp_path / "update", SimpleNamespace(size=1))])
    assert list(tmp_path.iterdir()) == []
    collector.close()
