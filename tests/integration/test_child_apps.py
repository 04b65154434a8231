"""Apps in the manner of Flower's public quickstarts, without a [tool.hansa] table, in real child processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.sandbox import SandboxMode, available
from tests.apps.play import APPS, play

pytestmark = pytest.mark.integration
MODE = SandboxMode.BWRAP if available()[0] else SandboxMode.NONE


async def test_a_numpy_app_trains_and_evaluates_in_both_modes(tmp_path: Path) -> None:
    results = [await play(APPS / "numpy_app", 2, mode, tmp_path) for mode in {MODE, SandboxMode.NONE}]
    for played in results:
        assert played.last["op"] == "finished"
        assert [frame["round"] for frame in played.of("round_done")] == [1, 2, 3]
        losses = [frame["evaluate"]["eval_loss"] for frame in played.of("round_done")]
        assert losses == sorted(losses, reverse=True)
        assert all(frame["fold"] and not frame["why"] for frame in played.of("exchange"))
    assert results[0].arrays["arrays/0"].tobytes() == results[-1].arrays["arrays/0"].tobytes()


async def test_a_torch_app_keeps_its_int64_counters_through_all_rounds(tmp_path: Path) -> None:
    played = await play(APPS / "torch_app", 3, MODE, tmp_path)
    assert played.last["op"] == "finished"
    counters = [dtypes["arrays/norm.num_batches_tracked"] for dtypes in played.dtypes]
    assert counters == ["I64"] * len(counters)
    assert len(counters) == 6
    assert {dtypes["arrays/fc1.weight"] for dtypes in played.dtypes} == {"F32"}
    # Three batches of 16 from 48 samples in each of three rounds.
    assert played.arrays["arrays/norm.num_batches_tracked"].item() == 9
    assert played.arrays["arrays/norm.num_batches_tracked"].dtype == np.int64
    assert [frame["round"] for frame in played.of("evaluated")] == [0, 1, 2, 3]
    assert set(played.last["metrics"]) >= {"train.train_loss", "evaluate.eval_acc", "central.accuracy"}


async def test_a_scikit_learn_app_runs_and_writes_its_model_into_its_private_folder(tmp_path: Path) -> None:
    played = await play(APPS / "sklearn_app", 2, MODE, tmp_path)
    assert played.last["op"] == "finished"
    assert played.last["metrics"]["evaluate.accuracy"] > 0.5
    assert "Saving final model" in (tmp_path / "server1.log").read_text()


async def test_an_app_that_calls_the_grid_by_hand_gets_individual_replies_and_its_state_is_the_result(
    tmp_path: Path,
) -> None:
    played = await play(APPS / "by_hand", 3, MODE, tmp_path)
    assert played.last["op"] == "finished"
    exchanges = played.of("exchange")
    assert [(frame["messages"][0]["type"], frame["round"], frame["fold"]) for frame in exchanges] == [
        ("query", 0, False), ("train.shift", 1, False), ("train.shift", 2, False),
    ]  # fmt: skip
    assert exchanges[0]["why"] == "replies to query messages are not folded"
    assert exchanges[1]["why"] == "app calls the Grid itself"
    assert {len(frame["objects"]) for frame in exchanges[1:]} == {1}  # one content for all three nodes
    # Each round adds 1 and the mean of the partition ids 0, 1, 2.
    np.testing.assert_array_equal(played.arrays["arrays/w"], np.full(4, 4.0, np.float32))
    assert "counts [10, 11, 12]" in (tmp_path / "server1.log").read_text()


async def test_push_and_pull_bring_each_reply_once(tmp_path: Path) -> None:
    played = await play(APPS / "push_pull", 3, MODE, tmp_path)
    assert played.last == {"op": "finished", "object": None, "round": 0, "metrics": {}}
    assert "values [7, 14, 21]" in (tmp_path / "server1.log").read_text()


async def test_a_warm_client_keeps_its_state_between_messages(tmp_path: Path) -> None:
    played = await play(APPS / "stateful", 2, MODE, tmp_path)
    assert played.last["metrics"]["train.calls"] == 3
    np.testing.assert_array_equal(played.arrays["arrays/0"], np.full(3, 6.0, np.float32))  # 1 + 2 + 3
    assert all(frame["state"] for frame in played.of("reply"))


async def test_a_tenants_folder_called_common_is_the_tenants_and_never_ours(tmp_path: Path) -> None:
    for mode in {MODE, SandboxMode.NONE}:
        played = await play(APPS / "shadow", 2, mode, tmp_path)
        assert played.last["op"] == "finished", played.last


async def test_an_app_in_flowers_older_style_runs_and_has_a_result(tmp_path: Path) -> None:
    played = await play(APPS / "legacy", 3, MODE, tmp_path)
    assert played.last["metrics"] == {"evaluate.loss": 12.0, "evaluate.accuracy": 0.5}
    # Each of two rounds adds the mean of 1, 2 and 3.
    np.testing.assert_array_equal(played.arrays["arrays/0"], np.full(3, 4.0, np.float32))
    asked = [(f["messages"][0]["type"], f["round"], len(f["messages"])) for f in played.of("exchange")]
    assert asked == [("train", 1, 3), ("evaluate", 1, 3), ("train", 2, 3), ("evaluate", 2, 3)]
    assert {len(frame["objects"]) for frame in played.of("exchange")} == {1}  # one content for all three nodes


async def test_an_older_app_goes_on_without_a_client_that_fails(tmp_path: Path) -> None:
    played = await play(APPS / "legacy", 3, MODE, tmp_path, failing=1)
    np.testing.assert_array_equal(played.arrays["arrays/0"], np.full(3, 4.0, np.float32))  # the mean of 1 and 3, twice
    assert "received 2 results and 1 failures" in (tmp_path / "server1.log").read_text()


async def test_a_strategy_with_a_start_of_its_own_has_a_result_and_the_metrics_of_its_last_round(
    tmp_path: Path,
) -> None:
    played = await play(APPS / "own_start", 2, MODE, tmp_path)
    np.testing.assert_array_equal(played.arrays["arrays/0"], np.full(2, 2.0, np.float32))
    assert played.last["round"] == 2
    assert played.last["metrics"] == {"train.loss": 0.5, "central.sum": 4.0}
    assert [frame["round"] for frame in played.of("evaluated")] == [1, 2]
    assert [frame["round"] for frame in played.of("round_done")] == [1, 2]
