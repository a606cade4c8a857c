"""What is stored of a session as the AI SDK's messages, for a page that is loaded: what it then resumes comes after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from shared.sessions.approvals.models import Approval
from shared.sessions.doors.ai_sdk.request import UiMessage, UiPart
from shared.sessions.doors.ai_sdk.wire import answer_id
from shared.sessions.doors.files import content_url
from shared.sessions.doors.stored import CallBelow
from shared.sessions.models import ApprovalStatus, JsonObject, Message, MessageRole, ToolCall, ToolCallStatus


def ui_messages(
    stored: Sequence[Message],
    approvals: Mapping[str, Approval],
    below: Sequence[CallBelow] = (),
    *,
    open_turn_id: str | None,
) -> list[UiMessage]:
    """stored: in the order of the conversation; messages of tools are not needed, as calls hold their results.
    approvals: by tool call. below: calls of subagents that people were asked about, oldest first. open_turn_id: of the
    turn that a stream tells from its beginning; its answer is left out.

    The answers of a turn are one message, with the turn's id; those behind a message that joined it are another one.
    """
    found: list[UiMessage] = []
    joined: str | None = None
    told = [message for message in stored if message.role in {MessageRole.USER, MessageRole.ASSISTANT}]
    for (role, turn_id), group in groupby(told, key=lambda message: (message.role, message.turn_id)):
        if role is MessageRole.USER:
            asked = list(group)
            found += [_question(message) for message in asked]
            joined = None if asked[-1].joined_after is None else asked[-1].id
        elif turn_id != open_turn_id:
            found.append(_answer(turn_id or "", joined, list(group), approvals, below))
    return found


def whole_turns(newest_first: Sequence[Message], *, has_more: bool) -> list[Message]:
    """Stored messages in the order of the conversation, from a question on if there are more before them."""
    found = list(reversed(newest_first))
    if has_more:
        asked = [number for number, message in enumerate(found) if message.role is MessageRole.USER]
        found = found[asked[0] :] if asked else found
    return found


def _question(message: Message) -> UiMessage:
    told = message.from_subagent
    if told is not None:
        # No words of the user: pages show those of an assistant apart.
        about = told.model_dump(mode="json")
        parts = [_part("data-subagent", id=told.tool_call_id, data=about), _part("text", text=message.content)]
        return UiMessage(id=message.id, role="assistant", parts=parts)
    files = [
        _part("file", url=content_url(file.id), mediaType=file.media_type, filename=file.name)
        for file in message.attachments
    ]
    return UiMessage(id=message.id, role="user", parts=[_part("text", text=message.content), *files])


def _answer(
    turn_id: str,
    joined: str | None,
    answers: Sequence[Message],
    approvals: Mapping[str, Approval],
    below: Sequence[CallBelow],
) -> UiMessage:
    about = {"session_id": answers[0].session_id, "turn_id": turn_id}
    parts = [_part("data-turn", id=turn_id, data=about)]
    for answer in answers:
        parts += _step(answer, approvals, below)
    return UiMessage(id=answer_id(turn_id, joined), role="assistant", parts=parts)


def _step(answer: Message, approvals: Mapping[str, Approval], below: Sequence[CallBelow]) -> Iterator[UiPart]:
    yield _part("step-start")
    if answer.reasoning:
        yield _part("reasoning", text=answer.reasoning, state="done")
    if answer.content:
        yield _part("text", text=answer.content, state="done")
    for call in answer.tool_calls:
        yield _tool(call, approvals.get(call.id))
    calls = {call.id for call in answer.tool_calls}
    for one in below:
        if one.through in calls:
            yield _tool(one.call, one.approval)


def _tool(call: ToolCall, approval: Approval | None) -> UiPart:
    shown: JsonObject = {
        "toolName": call.name,
        "toolCallId": call.id,
        "input": call.arguments if call.decided_arguments is None else call.decided_arguments,
        "providerExecuted": True,
    }
    if approval is not None and approval.status in {ApprovalStatus.APPROVED, ApprovalStatus.REJECTED}:
        is_approved = approval.status is ApprovalStatus.APPROVED
        shown["approval"] = {"id": approval.id, "approved": is_approved}
        if approval.comment is not None:
            shown["approval"]["reason"] = approval.comment
    match call.status:
        case ToolCallStatus.COMPLETED:
            return _part("dynamic-tool", **shown, state="output-available", output=call.result)
        case ToolCallStatus.REJECTED:
            return _part("dynamic-tool", **shown, state="output-denied")
    text = call.result.get("error") if isinstance(call.result, dict) else None
    return _part("dynamic-tool", **shown, state="output-error", errorText=str(text or "The call was cancelled."))


def _part(kind: str, **fields: Any) -> UiPart:
    return UiPart.model_validate({"type": kind, **fields})
