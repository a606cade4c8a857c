"""What a session is called until somebody names it.

It is stored with the message that it is taken from (`adapters/postgres/turns/turns.sql`).

Not here: a title by a model, which may take its place later (`life/titling.py`).
"""

from __future__ import annotations

import re

MAX_TITLE_CHARS = 80
_LOOKED_AT = 2_000
_LINE = re.compile(r"[^\s#>*_`~-][^\n\r]*")
"""The first line that has something in it, without marks of Markdown before it."""


def title_of(content: str) -> str | None:
    """The title that a session gets from its first message. None: the message has no text."""
    found = _LINE.search(content, 0, _LOOKED_AT)
    if found is None:
        return None
    line = " ".join(found[0].split())
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1].rstrip() + "…"
