"""A card: what people are told of an approval in Teams, Slack or a mail, before it is written as any of them wants it.

Pure functions. Everything from a model or a person is plain text here, with invisible characters shown as escapes; each
channel writes it so that it stays plain text. A card decides nothing: its link leads to the approver's page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from shared.sessions.approvals import timing
from shared.sessions.approvals.call_context import CARD, ApprovalContext, Excerpt, context_of
from shared.sessions.approvals.models import Approval
from shared.sessions.approvals.rules.in_force import in_words
from shared.sessions.approvals.voting import public_approval
from shared.sessions.records.approval_policy import Channel, NoticeKind, ShownContext, TimeoutAction
from shared.sessions.records.approvals import ApprovalRecord, CallContext
from shared.visible import revealed

WARNING = (
    "A model wrote these arguments, and others may have written what led to them. All is shown as it is: follow no link"
    " and no instruction in it."
)

_HEADINGS = {
    NoticeKind.REQUESTED: "Approval needed",
    NoticeKind.REMINDER: "Still waiting for an approval",
    NoticeKind.ESCALATED: "Escalated: approval needed",
}
_MAX_VALUE_CHARS = 500
_MAX_QUESTION_CHARS = 140
"""Of a header in Slack: 150."""
MAX_CONTEXT_CHARS = 2_500
"""Of all of a card's context."""


@dataclass(frozen=True, slots=True)
class Card:
    """heading: of our own words only. facts: (name, value). context: what led to the call, as (heading, text).
    arguments: indented JSON. link: the approver's page."""

    message_id: str
    heading: str
    question: str
    facts: tuple[tuple[str, str], ...]
    context: tuple[tuple[str, str], ...]
    arguments: str
    link: str

    def cut_arguments(self, most: int) -> str:
        """At most about so many characters; a cut says how much is missing, and where all of it is."""
        missing = len(self.arguments) - most
        if missing <= 0:
            return self.arguments
        return f"{self.arguments[:most]}\n[cut: {missing} more characters are on the page]"


class CardChannel(Protocol):
    """One way to people."""

    async def send(self, card: Card) -> None:
        """Raises Transient unless it was taken; its text names no address and no secret."""
        ...


type CardChannels = dict[Channel, CardChannel]
"""Those that the deployment has."""


def card_of(
    record: ApprovalRecord, kind: NoticeKind, context: CallContext | None, *, message_id: str, link: str
) -> Card:
    """The card of an approval that is pending. context: None: its session is gone."""
    approval = public_approval(record)
    told = context_of(record.id, context, record.policy.context, limits=CARD)
    return Card(
        message_id=message_id,
        heading=_HEADINGS[kind],
        question=_short(f"Allow {_line(approval.tool)}?", _MAX_QUESTION_CHARS),
        facts=tuple((name, _short(_line(value), _MAX_VALUE_CHARS)) for name, value in _facts(approval, told)),
        context=tuple(_bounded(_context(told))),
        arguments=revealed(json.dumps(approval.arguments, indent=2, ensure_ascii=False)),
        link=link,
    )


def _context(told: ApprovalContext) -> Iterator[tuple[str, str]]:
    """In order of importance; headings are our own words."""
    if told.question is not None:
        yield "The question", _cut(told.question)
    if told.said is not None:
        yield "What the agent wrote with the call", _cut(told.said)
    untrusted = [source.name for source in told.read if source.is_untrusted]
    if untrusted:
        yield "Untrusted input that it had read", _short(", ".join(untrusted), _MAX_VALUE_CHARS)
    if told.data is not None:
        yield "Data from outside that came with the question", _cut(told.data)
    if told.earlier:
        more = [f"{told.more_earlier} before these"] if told.more_earlier else []
        calls = [f"{call.tool} {_line(_cut(call.arguments))}: {call.status}" for call in told.earlier]
        yield "Earlier calls of the turn", "\n".join([*more, *calls])


def _bounded(parts: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    room = MAX_CONTEXT_CHARS
    for heading, text in parts:
        if room > len(heading):
            kept = _short(text, room - len(heading))
            room -= len(heading) + len(kept)
            yield heading, kept


def _cut(excerpt: Excerpt) -> str:
    return f"{excerpt.text} [cut: {excerpt.missing} more characters]" if excerpt.missing else excerpt.text


def _facts(approval: Approval, told: ApprovalContext) -> list[tuple[str, str]]:
    facts = [("Asked by", approval.requested_by)]
    if approval.agent_id is not None:
        facts.append(("Agent", f"{approval.agent_id}, version {approval.agent_version}"))
    if approval.asked_through:
        facts.append(("Through", " → ".join([*approval.asked_through, approval.agent_id or ""])))
    if told.shows is not ShownContext.NONE:
        facts.append(("Session", told.session_name or "untitled"))
    if approval.definition is not None:
        facts.append(("MCP server", f"{approval.definition.server} at {approval.definition.url}"))
    if approval.reason is not None:
        facts.append(("Why it waits", approval.reason))
    facts.append(("Takes", "; ".join(in_words(one) for one in approval.requirements)))
    runs = approval.policy.on_timeout is TimeoutAction.APPROVE
    otherwise = "it runs without one" if runs else "it does not run"
    facts.append(("Decide by", f"{timing.in_words(approval.expires_at)}; without a decision {otherwise}"))
    return facts


def _line(text: str) -> str:
    """On one line, without controls."""
    return "".join(character if character.isprintable() else " " for character in revealed(text))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
