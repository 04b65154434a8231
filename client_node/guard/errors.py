"""What may be told of an app's failure where its words stay at the node: they may quote the data.

``ValueError: could not convert 'Ana Silva'`` becomes ``ValueError at client_app.py:33``: its kind and the place in the
app, whose text everybody who runs it has anyway.
"""

from __future__ import annotations

import re

LAST_WORDS = "; its last words: "  # what follows was printed by the app
_OF_THE_APP = frozenset({"app_raised", "app_exited"})  # these messages are the app's; the others are ours
_KIND = re.compile(r"[A-Za-z_][\w.]{0,79}(?=:|$)", re.MULTILINE)
_PLACE = re.compile(r'File "[^"\n]*/apps/[0-9a-f]{64}/([\w./-]{1,200})", line (\d{1,9})')


def without_words(reason: str, detail: str) -> str:
    """Return what ``detail`` says without anything that the app has put into words.

    Args:
        reason: The failure's stable code.
        detail: The whole message, perhaps with a traceback.
    """
    ours = detail.partition(LAST_WORDS)[0]
    if reason not in _OF_THE_APP:
        return ours.partition("\n")[0]
    kind = "sys.exit" if reason == "app_exited" else _first(_KIND.match(ours))
    places = _PLACE.findall(detail)
    where = f" at {places[-1][0]}:{places[-1][1]}" if places else ""
    return f"{kind or 'an exception'}{where}; its words stay at the node, unless its operator sets share_errors"


def _first(found: re.Match[str] | None) -> str:
    return found.group() if found is not None else ""
