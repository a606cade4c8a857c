"""Facts stated in a conversation ("my X is Y", "remember that …"), found again and kept in a summary.

Invariant: nothing is made up. A value is always part of a text that the model was shown, and of two statements about
the same thing the later one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_KEPT = 40
"""Most statements in a summary."""
_MAX_VALUE_CHARS = 200
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”’)]*\s+|[\n\r;]+|\\n")
_OWNER = r"(?:my|(?:the )?user[’']s)"  # "your" may mean the model, "our" anybody
_SUBJECT = r"(?P<subject>(?:[\w’'-]+\s+){0,3}?[\w’'-]+)"
_STATED = re.compile(
    rf"\b{_OWNER}\s+{_SUBJECT}\s+(?P<verb>is|are|was|were)\s+(?P<value>.+?)(?=,?\s+(?:and|but)\s+{_OWNER}\s|$)",
    re.IGNORECASE,
)
_REMEMBERED = re.compile(r"\bremember(?:\s+that\b|\s+this\b|,)?\s*:?\s+(?P<note>.+)$", re.IGNORECASE)
_NOTE = re.compile(rf"^(?:the\s+|{_OWNER}\s+)?{_SUBJECT}\s+(?P<verb>is|are|was|were)\s+(?P<value>.+)$", re.IGNORECASE)
_ASKED = re.compile(
    rf"\bwhat(?:[’']s|\s+is|\s+are|\s+was|\s+were)\s+(?P<owner>my|the)\s+{_SUBJECT}\s*(?:[?.!]|$)", re.IGNORECASE
)
_ASKED_NOTES = re.compile(r"\bwhat\b[^.?!\n]{0,30}\bremember\b", re.IGNORECASE)
_SUMMARY_WANTED = re.compile(
    r"\b(?:summari[sz]e|summary of|sum up)\b[^.?!\n]{0,80}\b(?:conversation|dialogue|discussion|chat|transcript)\b",
    re.IGNORECASE,
)
_FRAME = " \t\"'“”‘’.,!*`"


@dataclass(frozen=True, slots=True)
class Fact:
    subject: str
    """Lower case, without "my" and the like; empty for a note that is not of the form "X is Y"."""
    value: str
    line: str
    """The statement as a line of a summary."""


@dataclass(frozen=True, slots=True)
class Question:
    owner: str
    """my or the."""
    subject: str


def facts_in(texts: Iterable[str]) -> list[Fact]:
    """The facts in the texts, oldest first; a later statement replaces an earlier one about the same thing."""
    found: dict[str, Fact] = {}
    for text in texts:
        for fact in _stated(text):
            key = fact.subject or fact.line.casefold()
            found.pop(key, None)
            found[key] = fact
    return list(found.values())


def asked_for(text: str) -> Question | None:
    """The subject of a "what is my X?" question."""
    match = _ASKED.search(text)
    return Question(match["owner"].lower(), match["subject"]) if match else None


def asks_for_notes(text: str) -> bool:
    """Whether the text asks for the remembered notes."""
    return _ASKED_NOTES.search(text) is not None


def asks_for_summary(text: str) -> bool:
    """Whether a text asks to summarise a conversation."""
    return _SUMMARY_WANTED.search(text) is not None


def find_fact(facts: Iterable[Fact], subject: str) -> Fact | None:
    wanted = _normal(subject)
    return next((fact for fact in facts if fact.subject == wanted), None)


def summary(facts: list[Fact]) -> str:
    """A summary that `facts_in` can read again."""
    lines = [f"- {fact.line}" for fact in facts] or ["- Nothing was stated."]
    return "\n".join(["Summary by the offline demo model, made by a rule:", *lines])


def _stated(text: str) -> Iterator[Fact]:
    for sentence in _SENTENCE_END.split(text):
        if not sentence or sentence.rstrip().rstrip(_FRAME).endswith(("?", "…")):
            continue  # a question is no statement, and half a quotation is misleading
        note = _REMEMBERED.search(sentence)
        if note is not None:
            yield _noted(note["note"].strip(_FRAME))
            continue
        for match in _STATED.finditer(sentence):
            value = match["value"].strip(_FRAME)[:_MAX_VALUE_CHARS]
            if value:
                yield Fact(_normal(match["subject"]), value, f"my {match['subject']} {match['verb'].lower()} {value}.")


def _noted(note: str) -> Fact:
    line = f"remember: {note[:_MAX_VALUE_CHARS]}."
    match = _NOTE.match(note)
    if match is None:
        return Fact("", note, line)
    return Fact(_normal(match["subject"]), match["value"].strip(_FRAME)[:_MAX_VALUE_CHARS], line)


def _normal(subject: str) -> str:
    return " ".join(subject.replace("’", "'").casefold().split())
