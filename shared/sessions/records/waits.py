"""Waits of tool calls as the stores keep them, with what the wire does not show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.rights import Access
from shared.sessions.events import EventTarget
from shared.sessions.models import JsonObject, Question, ToolWait, WaitStatus
from shared.sessions.records.audit import AuditNote


@dataclass(frozen=True, slots=True)
class CallWait:
    """The newest wait of a call, as read to go on with it."""

    wait: ToolWait
    number: int
    """From 1."""
    state: str | None
    """What whoever asked wants back, unread."""
    answer: JsonObject | None
    """By question: `{"action": ..., "content": ...}`."""
    workflow: str | None = None
    """The orchestration that answers it; None: none does."""
    workflow_id: str | None = None
    """Its instance."""
    is_begun: bool = False
    """Of a workflow: it runs, or has run."""


@dataclass(frozen=True, slots=True)
class NewWait:
    """A wait that is opened, as input for the store."""

    id: str
    tool_call_id: str
    turn_id: str
    number: int
    wait: ToolWait
    state: str | None
    workflow: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """One start of a workflow, of which the first that begins counts."""

    name: str
    instance_id: str
    tool_call_id: str
    user_id: str
    roles: tuple[str, ...]
    session_id: str
    agent_id: str | None
    agent_version: int | None
    input: JsonObject
    """The arguments of the call."""


class WorkflowBegun(StrEnum):
    """What became of a start."""

    NOW = "now"  # it runs; also said again
    HELD = "held"  # its session is suspended
    NEVER = "never"  # another start runs, or nobody waits for it


@dataclass(frozen=True, slots=True)
class WorkflowLook:
    """A workflow that has not been seen to have ended."""

    wait_id: str
    tool_call_id: str
    name: str
    instance_id: str
    is_awaited: bool
    """Its call waits for it."""
    is_begun: bool


@dataclass(frozen=True, slots=True)
class WaitRecord:
    """A wait as somebody finds it who wants to answer."""

    wait: ToolWait
    session_id: str
    turn_id: str
    message_id: str
    """Of the answer that made the call."""
    answer_digest: str | None
    instance_id: str
    target: EventTarget
    access: Access | None
    """The user's in its session; None: a stranger."""


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """A user's answer, as input for the store."""

    wait_id: str
    user_id: str
    answer: JsonObject
    digest: str
    actions: dict[str, str]


class AnswerEffect(StrEnum):
    ENDED = "ended"  # the call goes on with it
    NOTHING = "nothing"  # the wait was over


type WaitNotes = Callable[[ToolWait], Sequence[AuditNote]]

OPEN = WaitStatus.PENDING


def questions_of(request: JsonObject) -> list[Question]:
    return [Question.of_store(one) for one in request["questions"]]
