"""The fold of a job's log into one line."""

from common.cli.progress import Progress, fold, in_line, in_words, loss_in


def entry(event, **facts):
    return {"seq": 1, "at": "2026-01-01T10:00:00.000Z", "event": event, "facts": facts}


def test_the_line_has_round_loss_and_who_is_waited_for():
    at = fold(Progress(state="running", rounds=4), entry("evaluated", round=2, metrics={"loss": 0.5}))
    at = fold(at, entry("round_aggregated", round=2, metrics={"loss": 0.1}))
    at = fold(at, entry("round_started", round=2, kind="evaluate", nodes=["hungary", "vabeach", "cleveland"]))
    at = fold(at, entry("update_received", round=2, node="cleveland"))
    assert in_line(at, 7.4) == (
        "running     [##########..........]  round 2/4  loss 0.5000  waiting for hungary, vabeach  7s"
    )


def test_who_is_waited_for_follows_the_log():
    at = fold(Progress(), entry("round_started", round=1, nodes=["a", "b", "c", "d"]))
    at = fold(at, entry("update_dropped", node="b"))
    at = fold(at, entry("node_failed", node="c", retried=True))
    assert at.waiting_for == ("a", "c", "d")
    at = fold(at, entry("node_failed", node="c", retried=False))
    assert (at.waiting_for, at.dropped) == (("a", "d"), 1)
    assert fold(at, entry("round_aggregated", round=1)).waiting_for == ()


def test_a_wait_is_told_in_the_coordinator_s_own_sentence_until_the_round_goes_on():
    sentence = "waiting for 1 more of 3: vabeach offline since 10:00"
    at = fold(Progress(state="running"), entry("job_waiting", sentence=sentence, stalled=True))
    assert at.state == "waiting"
    assert sentence in in_line(at, 1)
    at = fold(at, entry("round_started", round=1, nodes=[]))
    assert (at.state, at.note) == ("running", "")


def test_the_end_is_told():
    at = fold(Progress(state="running"), entry("job_failed", reason="app_raised", message="boom"))
    assert (at.state, at.note) == ("failed", "boom")


def test_rounds_never_go_back():
    assert fold(Progress(round=5), entry("late", round=3)).round == 5


def test_a_loss_of_evaluation_wins_over_one_of_training():
    assert loss_in({"train.train-loss": 9.0, "evaluate.loss": 0.5}) == 0.5
    assert loss_in({"train_loss": 9.0}) == 9.0
    assert loss_in({"my_loss": 2.0}) == 2.0
    assert loss_in({"train.loss": 9.0, "evaluate.my-loss": 2.0}) == 2.0
    assert loss_in({"accuracy": 1.0}) is None


def test_facts_of_any_kind_do_no_harm():
    at = fold(Progress(), entry("round_started", round="7", rounds=None, metrics=[1], nodes="abc", loss="nan"))
    assert (at.round, at.rounds, at.loss, at.waiting_for) == (0, 0, None, ())
    assert "x" in in_words(entry("x", round={}, nested={"a": {"b": 1}}))


def test_words_are_one_line():
    assert in_words(entry("job_waiting", sentence="waiting for 1 more\nof 3", reason="x")).count("\n") == 0
