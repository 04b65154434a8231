"""What people see of a job's exchanges."""

from common.ids import Digest, JobId, NodeId
from coordinator.api.views_jobs import round_
from coordinator.domain.exchanges import Exchange, Included, Reply

NORTH, SOUTH = NodeId("node_north"), NodeId("node_south")
NAMES = {NORTH: "ward", SOUTH: "clinic"}
SUM = Digest("a" * 64)


def exchange(**facts) -> Exchange:
    return Exchange(JobId("job_1"), seq=1, kind="send_and_receive", messages=(), opened_at=0.0, **facts)


def included(row: Exchange) -> list[tuple[str, float | None]]:
    return [(one.name, one.weight) for one in round_(row, NAMES).included]


def test_a_folded_exchange_names_whose_update_went_in_and_its_weight():
    row = exchange(fold=True, replies=(Reply(0, None, SUM),), included=(Included(NORTH, SUM, 303.0),))
    assert included(row) == [("ward", 303.0)]


def test_replies_one_by_one_name_the_nodes_whose_reply_the_app_got():
    row = exchange(fold=False, replies=(Reply(0, NORTH, SUM), Reply(1, SOUTH, None, error_code=1, error="late")))
    assert included(row) == [("ward", None)]
