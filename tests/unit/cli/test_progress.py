"""The fold of a job's log into one line."""

from common.cli.progress import Progress, fold, in_line, in_words, loss_in


def entry(event, **facts):
    return {"seq": 1, "at": "2026-01-01T10:00:00.000Z", "event": event, "facts": facts}


def test_the_line_has_round_loss_and_who_is_waited_for():
    at = fold(Progress(state="running", rounds=4), entry("round_aggregated", round=2, metrics={"loss": 0.5}))
    at = fold(at, entry("round_waiting", round=2, waiting_for=["hungary", "vabeach"]))
    assert in_line(at, 7.4) == (
        "running     [##########..........]  round 2/4  loss 0.5000  waiting for hungary, vabeach  7s"
    )


def test_nobody_is_waited_for_once_the_next_round_is_told():
    at = fold(Progress(), entry("w", round=1, waiting_for=["a"]))
    assert fold(at, entry("round_aggregated", round=2)).waiting_for == ()
    assert fold(at, entry("update_received", node="b")).waiting_for == ("a",)


def test_rounds_never_go_back():
    assert fold(Progress(round=5), entry("late", round=3)).round == 5


def test_a_loss_of_evaluation_wins_over_one_of_training():
    assert loss_in({"train.train-loss": 9.0, "evaluate.loss": 0.5}) == 0.5
    assert loss_in({"train_loss": 9.0}) == 9.0
    assert loss_in({"my_loss": 2.0}) == 2.0
    assert loss_in({"accuracy": 1.0}) is None


def test_facts_of_any_kind_do_no_harm():
    at = fold(Progress(), entry("x", round="7", rounds=None, metrics=[1], note=None, waiting_for="abc", loss="nan"))
    assert (at.round, at.rounds, at.loss, at.waiting_for) == (0, 0, None, ())
    assert "x" in in_words(entry("x", round={}, nested={"a": {"b": 1}}))


def test_words_are_one_line():
    assert in_words(entry("job_waiting", note="waiting for 1 more\nof 3", reason="x")).count("\n") == 0
