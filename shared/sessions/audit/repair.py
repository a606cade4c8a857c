"""Repairs a line that was claimed and never written, by code that had no outbox. A pure function.

The claim has the line's number, its seal and its time, and the database still tells what it was about. So every line
that it may have been is sealed, and the one whose seal is the claimed one is the line.

Invariant: what is restored is exactly what was sealed. Nothing is restored by likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from shared.sessions.audit.chain import Anchor, Gap, SealedLine, seal
from shared.sessions.audit.sealing import bounded
from shared.sessions.records.audit import AuditNote

MAX_SEALS = 100_000
"""Most lines that are sealed for one gap: about a third of a second."""


def may_be_repaired(gap: Gap, anchor: Anchor) -> bool:
    """Whether enough is known of the claims of a gap, of one or two lines."""
    claimed = [anchor.claimed_at(number) for number in gap.numbers]
    return gap.before is not None and gap.last is not None and len(claimed) <= 2 and None not in claimed


def restored(
    keys: Sequence[bytes], session_id: str, gap: Gap, anchor: Anchor, notes: Sequence[AuditNote]
) -> list[SealedLine]:
    """The lines of a gap; none when no line fits. notes: all that they may tell."""
    if not may_be_repaired(gap, anchor) or len(keys) * len(notes) ** len(gap.numbers) > MAX_SEALS:
        return []
    texts = [(note, bounded(note.details)) for note in notes]
    first, *rest = gap.numbers
    for key in keys:
        for one in _sealed(key, session_id, first, anchor, gap.before or "", texts):
            if not rest:
                if one.hash == gap.last:
                    return [one]
                continue
            for two in _sealed(key, session_id, rest[0], anchor, one.hash, texts):
                if two.hash == gap.last:
                    return [one, two]
    return []


def _sealed(
    key: bytes, session_id: str, number: int, anchor: Anchor, previous: str, texts: Sequence[tuple[AuditNote, str]]
) -> list[SealedLine]:
    at = anchor.claimed_at(number)
    assert at is not None  # may_be_repaired
    return [
        seal(
            key,
            session_id,
            number,
            at=at.astimezone(UTC),
            who=note.who,
            action=note.action,
            details=text,
            previous=previous,
        )
        for note, text in texts
    ]
