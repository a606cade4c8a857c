"""Sealer: makes the next lines of a trail. Holds the keys, which neither store has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from shared.ids import new_id
from shared.sessions.audit.chain import Anchor, SealedLine, erased_row_key, seal
from shared.sessions.models import JsonObject
from shared.sessions.records.audit import AuditNote

MAX_DETAILS_CHARS = 20_000
"""A string property holds 32 Ki UTF-16 units (Azure Tables data model), and escaping may lengthen a cut text."""


class Sealer:
    """keys: the first seals. clock: aware UTC."""

    def __init__(self, keys: Sequence[bytes], *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._key = keys[0]
        self._clock = clock

    def after(self, session_id: str, head: Anchor, notes: Sequence[AuditNote]) -> tuple[list[SealedLine], datetime]:
        """The lines that follow `head`, and when they were made."""
        lines: list[SealedLine] = []
        number, previous, now = head.number, head.hash, self._clock()
        for note in notes:
            number += 1
            text = bounded(note.details)
            lines.append(
                seal(
                    self._key,
                    session_id,
                    number,
                    at=now,
                    who=note.who,
                    action=note.action,
                    details=text,
                    previous=previous,
                )
            )
            previous = lines[-1].hash
        return lines, now

    def erasure(self, session_id: str, details: JsonObject, *, who: str) -> SealedLine:
        """The one line that remains of an erased session. It is in no trail."""
        line = seal(
            self._key,
            session_id,
            0,
            at=self._clock(),
            who=who,
            action="session.erased",
            details=bounded(details),
            previous=new_id(),
        )
        return replace(line, row_key=erased_row_key(line))


def bounded(details: JsonObject) -> str:
    """The details as JSON that fits a table property; longer ones are cut and stored as text."""
    text = orjson.dumps(details).decode()
    limit = MAX_DETAILS_CHARS
    kept = text
    while len(kept.encode("utf-16-le")) // 2 > MAX_DETAILS_CHARS:
        kept = orjson.dumps({"cut": text[:limit]}).decode()
        limit //= 2
    return kept
