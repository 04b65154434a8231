"""What is told of a failure where the app's words stay at the node."""

import pytest

from client_node.guard.errors import without_words

APP = "/srv/hansa/apps/" + "ab" * 32
TRACE = f"""ValueError: could not convert 'Ana Silva'
Traceback (most recent call last):
  File "/hansa/common/child/client.py", line 43, in _answer
  File "{APP}/fed/client_app.py", line 33, in train
    name = float(row["Ana Silva"])
  File "/usr/lib/python3.11/site-packages/pandas/core.py", line 9, in read
ValueError: could not convert 'Ana Silva'
"""
KEPT = "; its words stay at the node, unless its operator sets share_errors"


@pytest.mark.parametrize(
    ("reason", "detail", "told"),
    [
        ("app_raised", TRACE, f"ValueError at fed/client_app.py:33{KEPT}"),
        ("app_raised", "torch.OutOfMemoryError: Ana Silva", f"torch.OutOfMemoryError{KEPT}"),
        ("app_raised", "Ana Silva", f"an exception{KEPT}"),
        ("app_raised", "KeyError", f"KeyError{KEPT}"),
        ("app_exited", "the app called sys.exit('Ana Silva')", f"sys.exit{KEPT}"),
        ("app_crashed", "the process was ended by SIGSEGV; its last words: Ana Silva", "the process was ended by SIGSEGV"),
        ("missing_imports", "the app imports what is not here: tensorflow", "the app imports what is not here: tensorflow"),
        ("app_timeout", "it took too long\nAna Silva", "it took too long"),
    ],
)  # fmt: skip
def test_the_kind_and_the_place_are_told_and_nothing_of_the_data(reason, detail, told):
    assert without_words(reason, detail) == told
    assert "Ana" not in told
