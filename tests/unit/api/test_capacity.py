"""GET /capacity: what the scheduler's journal shows is what the formulas are given."""

import pytest

from coordinator.scheduling.events import Asked, Ended, Entry, Started
from coordinator.scheduling.records import Ask, Lease, Need

NEED = Need("cuda", 1000)


def rounds(clock, count, last):
    """Return rows behind ``last``: every minute a gang of two, granted after 1 s, held for 90 s."""
    first = round(clock.now() * 1000) - 3_600_000
    rows = []
    for i in range(count):
        at, name = first + i * 60_000, f"job_1/{i}"
        leases = tuple(Lease(name, "job_1", "north", n, "north", NEED, (), at, at + 9, 1) for n in ("n1", "n2"))
        rows += [
            (at, Asked(Ask(name, "job_1", "north", NEED, 2, 2, 1000, 100_000, 0, 0))),
            (at + 1000, Started(name, leases)),
            (at + 91_000, Ended(name, "n1")),
            (at + 91_000, Ended(name, "n2")),
        ]
    rows.sort(key=lambda row: row[0])
    return [Entry(seq, at, 0, event) for seq, (at, event) in enumerate(rows, start=last.seq + 1 if last else 1)]


async def test_the_real_queue_is_measured(world):
    await world.store.write(lambda tx: tx.schedule.append(rounds(world.clock, 30, tx.schedule.last())))
    async with world.client("root") as root:
        answer = await root.get("/api/v1/capacity", params={"gpus": 8, "wait_s": 30, "window_s": 7200})
    plan = answer.json()
    assert answer.status_code == 200
    assert plan["demand"] == {
        "arrivals_per_s": pytest.approx(1 / 60), "service_s": pytest.approx(90), "gang": 2,
        "ca2": pytest.approx(0), "cs2": pytest.approx(0), "load": pytest.approx(1.5),
    }  # fmt: skip
    assert (plan["gpus"], plan["servers"]) == (8, 4)
    assert plan["observed"]["rounds"] == 30
    assert plan["observed"]["p_wait"] == 1.0
    assert plan["observed"]["mean_wait_s"] == pytest.approx(1.0)
    assert sum(plan["states"]) == pytest.approx(1, abs=0.01)


async def test_a_queue_that_nobody_used_asks_what_to_expect(world):
    async with world.client("root") as root:
        answer = await root.get("/api/v1/capacity", params={"gpus": 8})
    assert (answer.status_code, answer.json()["code"]) == (400, "nothing_measured")
    assert "--arrivals" in answer.json()["next_step"]


@pytest.mark.parametrize(
    "query", [{"gpus": 0}, {"share": 1}, {"wait_s": "inf"}, {"service_s": -1}, {"cs2": "nan"}, {"gpu": 1}], ids=str
)
async def test_a_question_that_means_nothing_is_refused(world, query):
    async with world.client("root") as root:
        answer = await root.get("/api/v1/capacity", params=query)
    assert answer.status_code == 422
