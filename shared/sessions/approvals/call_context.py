"""What led to a call, for those who decide it without being in its session. Pure functions.

Invariant: it is of the call's turn alone, bounded in number and bytes whatever was written there, and says where it was
cut. Text is plain, with invisible characters and controls as escapes. What an agent's policy keeps back is not in it,
except for people of the session, who may read all of that anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from shared.sessions.approvals.containment import risks_of
from shared.sessions.models import ToolCallStatus, Value
from shared.sessions.records.approval_policy import ShownContext
from shared.sessions.records.approvals import CallBefore, CallContext, CutText
from shared.sessions.tools.registry import ToolRisk
from shared.visible import revealed_text

MAX_BYTES = 128 * 1024
"""Of a whole context as JSON."""
_MAX_NAMES = 10
_MAX_SOURCES = 20
_MAX_NAME_CHARS = 200


class Excerpt(Value):
    """The beginning of a text."""

    text: str
    missing: int = Field(0, description="Characters that follow and are left out; 0: this is all of it")


class EarlierCall(Value):
    """A call of an earlier step of the same turn."""

    tool: str
    status: ToolCallStatus
    arguments: Excerpt = Field(description="JSON; what ran, if a person changed it")
    result: Excerpt | None = Field(description="JSON or text")
    said: Excerpt | None = Field(description="What the agent wrote before it")
    is_untrusted: bool = Field(description="What it returned may be somebody else's words")
    server: str | None = Field(description="The address of its MCP server")


class SourceRead(Value):
    """Something that the model had read when it wrote the call, in this turn or before."""

    name: str = Field(description="A tool, or a kind such as `attached files`")
    is_untrusted: bool = Field(description="It may hold somebody else's words, with instructions to the model")
    is_private: bool


class ApprovalContext(Value):
    """What led to the call of an approval, in its turn. Texts are excerpts; what is null or empty there is not, or the
    policy does not show it."""

    approval_id: str
    shows: ShownContext
    may_open_session: bool = Field(description="Whether the caller is in the session, and may read all of it")
    session_name: str | None = None
    asked_by: str | None = Field(None, description="Who wrote the question; null: unknown")
    asked_at: datetime | None = None
    question: Excerpt | None = Field(None, description="The message that the turn answers")
    files: list[str] = Field([], description="Names of files that came with it")
    more_files: int = 0
    data: Excerpt | None = Field(None, description="Data from outside that came with it, as of a trigger")
    said: Excerpt | None = Field(None, description="What the agent wrote with the call")
    reasoning: Excerpt | None = Field(None, description="The model's own summary of its reasoning for it")
    earlier: list[EarlierCall] = Field([], description="Calls of earlier steps of the turn, oldest first")
    more_earlier: int = Field(0, description="How many calls before these are left out")
    read: list[SourceRead] = Field([], description="What the model had read, untrusted sources first")
    more_read: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Of an excerpt in characters, and of calls."""

    question: int
    said: int
    arguments: int
    result: int
    calls: int


PAGE = Limits(question=4_000, said=4_000, arguments=1_000, result=1_500, calls=12)
CARD = Limits(question=500, said=500, arguments=120, result=0, calls=3)
"""Chats bound a message, and the arguments that would run come first there."""


def context_of(
    approval_id: str,
    found: CallContext | None,
    shows: ShownContext | None,
    *,
    in_session: bool = False,
    limits: Limits = PAGE,
) -> ApprovalContext:
    """found: None: its session is gone. shows: of the policy. in_session: whoever it is for may read the session."""
    shows = ShownContext.FULL if in_session or shows is None else shows
    told = ApprovalContext(approval_id=approval_id, shows=shows, may_open_session=in_session)
    if found is None or shows is ShownContext.NONE:
        return told
    sources = _read(found.sources)
    question = {
        "session_name": None if found.session_name is None else _line(found.session_name),
        "asked_by": None if found.asked_by is None else _line(found.asked_by),
        "asked_at": found.asked_at,
        "question": _excerpt(found.question, limits.question),
        "files": [_line(name) for name in found.files[:_MAX_NAMES]],
        "more_files": max(0, len(found.files) - _MAX_NAMES),
    }
    told = told.model_copy(update=question)
    if shows is ShownContext.QUESTION:
        return told
    earlier = _earlier(found.before, limits)
    told = told.model_copy(
        update={
            # What the model read of files is theirs to open; of a trigger's data there is nothing else.
            "data": None if found.files else _excerpt(found.note, limits.question),
            "said": _excerpt(found.said, limits.said),
            "reasoning": _excerpt(found.reasoning, limits.said // 2),
            "read": sources[:_MAX_SOURCES],
            "more_read": max(0, len(sources) - _MAX_SOURCES),
        }
    )
    return _within(told, earlier, found.before_count)


def _within(told: ApprovalContext, earlier: Sequence[EarlierCall], count: int) -> ApprovalContext:
    """With as many of the newest calls as MAX_BYTES allow."""
    for first in range(len(earlier) + 1):
        kept = list(earlier[first:])
        whole = told.model_copy(update={"earlier": kept, "more_earlier": count - len(kept)})
        if len(whole.model_dump_json().encode()) <= MAX_BYTES:
            break
    return whole


def _earlier(before: Sequence[CallBefore], limits: Limits) -> list[EarlierCall]:
    newest = before[-limits.calls :]
    steps = [call.step for call in newest]
    return [
        EarlierCall(
            tool=_line(call.name),
            status=call.status,
            arguments=_excerpt(call.arguments, limits.arguments) or Excerpt(text="{}"),
            result=_excerpt(call.result, limits.result) if limits.result else None,
            # An answer says it once, however many calls it makes.
            said=_excerpt(call.said, limits.said // 4) if steps.index(call.step) == index else None,
            is_untrusted=call.result is not None and ToolRisk.READS_UNTRUSTED in risks_of(call.name),
            server=None if call.address is None else _line(call.address),
        )
        for index, call in enumerate(newest)
    ]


def _read(sources: frozenset[str]) -> list[SourceRead]:
    found = [
        SourceRead(
            name=_line(name),
            is_untrusted=ToolRisk.READS_UNTRUSTED in risks_of(name),
            is_private=ToolRisk.READS_PRIVATE in risks_of(name),
        )
        for name in sources
    ]
    return sorted(found, key=lambda source: (not source.is_untrusted, source.name))


def _excerpt(of: CutText | None, most: int) -> Excerpt | None:
    """None where there is no text."""
    if of is None or not of.text.strip():
        return None
    told = revealed_text(of.text)
    unread = of.length - len(of.text)
    if len(told) <= most:
        return Excerpt(text=told, missing=unread)
    return Excerpt(text=told[:most], missing=len(told) - most + unread)


def _line(text: str) -> str:
    told = revealed_text(text).replace("\n", " ").replace("\t", " ")
    return told if len(told) <= _MAX_NAME_CHARS else f"{told[: _MAX_NAME_CHARS - 1]}…"
