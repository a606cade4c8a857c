"""A turn as the AI SDK's UI message stream, version 1: one turn is one assistant message, whose id is the turn's. What
follows a message that joined the turn is another one (`answer_id`).

Invariant: a client that applies the parts in order has the texts of each answer's last attempt, each tool call with its
outcome, and each approval with its decision. A call of a subagent that people are asked about is a part of its own; the
call of the turn below which it stands has `WAITS_BELOW` as its output until they have decided, since a page sends
answers by itself only when no part of the step is open. A call of the page's own tools is the page's to run once it
waits for it, and the server's again once its result is stored, so that a page which sends results by itself sends each
once. Where text is to be taken back, clients from version 7 on are told by `reset-step`. Older ones refuse that part;
they get `data-superseded`: hide what stands between it and the step's start. Source: `uiMessageChunkSchema` of the npm
package `ai`, 6.0.326 and 7.0.173.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from shared.sessions.doors.progress import call_of
from shared.sessions.doors.whose import asking, whose
from shared.sessions.events import EventType, FrameType
from shared.sessions.live.sse import KEEP_ALIVE
from shared.sessions.models import FinishReason, JsonObject, ToolCallStatus, TurnStatus, WaitKind, WaitStatus

HEADER = ("x-vercel-ai-ui-message-stream", "v1")

OLDEST, NEWEST = 6, 7
"""Major versions of `ai`. The oldest is the first with approvals."""
_RESETS = 7
"""The first with `reset-step` and `tool-approval-response`."""

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.REFUSAL: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content-filter",
    FinishReason.TOOL_CALLS: "tool-calls",
}
_CANCELLED = "The turn was cancelled."

WAITS_BELOW = {"status": TurnStatus.WAITING_APPROVAL.value}
"""The output of a call of an agent that waits for people, while it does."""


def answer_id(turn_id: str, joined: str | None) -> str:
    """Of the assistant message that a turn is, or that follows a message which joined it."""
    return turn_id if joined is None else f"{turn_id}.{joined}"


def of_answer_id(given: str) -> tuple[str, str | None]:
    """What `answer_id` was made of, if it was."""
    turn_id, mark, joined = given.partition(".")
    return turn_id, joined if mark else None


class UiMessageStream:
    """A `Door`."""

    heartbeat = KEEP_ALIVE
    closing = b"data: [DONE]\n\n"

    def __init__(
        self,
        session_id: str,
        turn_id: str,
        *,
        message_id: str | None = None,
        joined: str | None = None,
        version: int = OLDEST,
    ) -> None:
        """message_id: the client's own id of the assistant message that goes on; None: it begins. joined: the user's
        message behind which it begins, in the middle of the turn. version: the client's major version of `ai`; a later
        one reads what an earlier one does."""
        self._about: JsonObject = {"session_id": session_id, "turn_id": turn_id}
        self._message_id = message_id or answer_id(turn_id, joined)
        self._has_resets = version >= _RESETS
        self._seq: int | None = None
        self._answer: str | None = None
        self._attempt = ""
        self._is_written = False
        self._part: tuple[str, str] | None = None
        self._parts = 0
        self._calls: dict[str, ToolCallStatus] = {}
        self._called: list[str] = []
        self._asked: set[str] = set()
        self._waits: dict[str, JsonObject] = {}
        self._through: dict[str, str] = {}
        """Of a call of a subagent, the turn's own call below which it stands."""
        self._inputs: dict[str, tuple[str, JsonObject]] = {}
        """Name and arguments, by call."""
        self._told_waits: set[tuple[str, str]] = set()
        self._goes_on = message_id is not None
        self._error = "The turn failed."

    def begin(self) -> Sequence[JsonObject]:
        return [{"type": "start", "messageId": self._message_id}, self._turn(TurnStatus.RUNNING)]

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        self._seq = envelope.get("seq", self._seq)
        kind, data = envelope["type"], envelope["data"]
        match kind:
            case EventType.STREAM_CHUNK:
                return self._frame(data["frame"], envelope.get("message_id") or "")
            case EventType.TOOL_CALL_PENDING:
                return self._pending(call_of(envelope), data["approval"], envelope.get("through"))
            case EventType.TOOL_CALL_APPROVED:
                return [*self._works_on(call_of(envelope)), *self._approved(call_of(envelope), data["approval"])]
            case EventType.TOOL_CALL_REJECTED:
                return [*self._works_on(call_of(envelope)), *self._rejected(call_of(envelope), data)]
            case EventType.TOOL_CALL_WAITING | EventType.TOOL_CALL_ANSWERED:
                return self._wait(call_of(envelope), data["wait"])
            case EventType.TOOL_CALL_PROGRESS:
                told = {"tool_call_id": call_of(envelope), "text": data["text"], "fraction": data["fraction"]}
                return [{"type": "data-progress", "id": told["tool_call_id"], "data": told}]
            case EventType.TOOL_CALL_COMPLETED | EventType.TOOL_CALL_FAILED:
                return [*self._works_on(call_of(envelope)), self._outcome(call_of(envelope), data["tool_call"])]
            case EventType.ERROR_OCCURRED:
                self._error = data["detail"]
            case EventType.STREAM_ENDED:
                return self._ended(data)
        return []

    def waiting(self) -> Sequence[JsonObject]:
        # A page shows as answered what it has answered. Where that was one vote of several, it must ask again: the
        # client would send an answer that leaves nothing open again and again.
        again = list(self._waits.values()) if self._goes_on else []
        status = TurnStatus.WAITING_APPROVAL if self._waits else TurnStatus.WAITING_INPUT
        above = dict.fromkeys(self._through[call_id] for call_id in self._waits if call_id in self._through)
        again += [_answered(call_id, WAITS_BELOW) for call_id in above]
        return [*again, self._turn(status), {"type": "finish", "finishReason": "tool-calls"}]

    def cut(self) -> Sequence[JsonObject]:
        return [*self._closed(), self._turn(TurnStatus.RUNNING), {"type": "finish", "finishReason": "other"}]

    def encode(self, part: JsonObject) -> bytes:
        return b"data: %b\n\n" % orjson.dumps(part)

    # Answers. ----------------------------------------------------------------------------------

    def _frame(self, frame: JsonObject, message_id: str) -> Sequence[JsonObject]:
        match frame["type"]:
            case FrameType.MESSAGE_START:
                return self._started(message_id, str(frame["attempt"]))
            case FrameType.CONTENT_DELTA:
                return self._delta("text", frame["text"])
            case FrameType.REASONING_DELTA:
                return self._delta("reasoning", frame["text"])
            case FrameType.TOOL_CALL:
                self._is_written = True
                self._calls[frame["id"]] = ToolCallStatus.PENDING
                self._called.append(frame["id"])
                self._inputs[frame["id"]] = frame["name"], frame["arguments"]
                return [*self._closed(), _called(frame["id"], frame["name"], frame["arguments"])]
            case FrameType.MESSAGE_END:
                self._answer = None
                return [*self._closed(), {"type": "finish-step"}]
            case FrameType.WAITING:
                told = {"lane": frame["lane"], "seconds": frame["seconds"]}
                return [{"type": "data-waiting", "data": told, "transient": True}]
            case FrameType.ERROR:
                self._error = frame["detail"]
        return []

    def _started(self, message_id: str, attempt: str) -> Sequence[JsonObject]:
        begins_again = message_id == self._answer
        if begins_again:
            for call_id in self._called:
                del self._calls[call_id]
        self._answer, self._attempt, self._called = message_id, attempt, []
        if not begins_again:
            self._is_written = False
            return [{"type": "start-step"}]
        taken_back = self._closed()
        if not self._is_written:
            return taken_back
        self._is_written = False
        if self._has_resets:
            return [*taken_back, {"type": "reset-step"}]
        return [*taken_back, {"type": "data-superseded", "data": {"message_id": message_id}}]

    def _delta(self, kind: str, text: str) -> Sequence[JsonObject]:
        made: list[JsonObject] = []
        if self._part is None or self._part[0] != kind:
            made += self._closed()
            self._parts += 1
            self._part = kind, f"{self._answer}.{self._attempt}.{self._parts}"
            made.append({"type": f"{kind}-start", "id": self._part[1]})
        self._is_written = True
        return [*made, {"type": f"{kind}-delta", "id": self._part[1], "delta": text}]

    def _closed(self) -> list[JsonObject]:
        """The end of the text that is open."""
        if self._part is None:
            return []
        (kind, part_id), self._part = self._part, None
        return [{"type": f"{kind}-end", "id": part_id}]

    # Tool calls. -------------------------------------------------------------------------------

    def _pending(self, call_id: str, approval: JsonObject, through: str | None) -> Sequence[JsonObject]:
        about = _approval(approval)
        if approval["id"] in self._asked:  # told again: somebody voted, or others were asked
            return [about]
        self._asked.add(approval["id"])
        request: JsonObject = {"type": "tool-approval-request", "approvalId": approval["id"], "toolCallId": call_id}
        if through is not None:
            request["reason"] = asking(approval)
        elif approval.get("reason") is not None:
            request["reason"] = approval["reason"]
        self._waits[call_id] = request
        if through is None:
            return [request, about]
        self._through[call_id] = through
        self._calls[call_id] = ToolCallStatus.PENDING
        self._inputs[call_id] = approval["tool"], approval["arguments"]
        return [_called(call_id, *self._inputs[call_id]), request, about]

    def _works_on(self, call_id: str) -> Sequence[JsonObject]:
        """A call of an agent whose subagent waits for people no more, or for the next ones."""
        above = self._through.get(call_id)
        if above is None or call_id not in self._waits or above not in self._inputs:
            return []
        return [_called(above, *self._inputs[above])]

    def _approved(self, call_id: str, approval: JsonObject) -> Sequence[JsonObject]:
        self._calls[call_id] = ToolCallStatus.APPROVED
        self._waits.pop(call_id, None)
        made: list[JsonObject] = []
        if approval.get("decided_arguments") is not None:
            self._inputs[call_id] = approval["tool"], approval["decided_arguments"]
            made.append(_called(call_id, *self._inputs[call_id]))
        return [*made, *self._decided(approval, approved=True)]

    def _rejected(self, call_id: str, data: JsonObject) -> Sequence[JsonObject]:
        """By a person, or by a timeout, which names no approval."""
        self._calls[call_id] = ToolCallStatus.REJECTED
        self._waits.pop(call_id, None)
        told = self._decided(data["approval"], approved=False) if "approval" in data else []
        return [*told, {"type": "tool-output-denied", "toolCallId": call_id}]

    def _decided(self, approval: JsonObject, *, approved: bool) -> list[JsonObject]:
        about = _approval(approval)
        if not self._has_resets or approval["id"] not in self._asked:
            return [about]
        response: JsonObject = {"type": "tool-approval-response", "approvalId": approval["id"], "approved": approved}
        if approval.get("comment") is not None:
            response["reason"] = approval["comment"]
        return [response, about]

    def _wait(self, call_id: str, wait: JsonObject) -> Sequence[JsonObject]:
        """What a call waits for, or has waited for: a question to the user, a result from elsewhere, or the page."""
        if (wait["id"], wait["status"]) in self._told_waits:
            return []
        self._told_waits.add((wait["id"], wait["status"]))
        made: list[JsonObject] = [{"type": "data-wait", "id": wait["id"], "data": wait}]
        if wait["kind"] == WaitKind.CLIENT and wait["status"] == WaitStatus.PENDING and call_id in self._inputs:
            made.append({**_called(call_id, *self._inputs[call_id]), "providerExecuted": False})
        return made

    def _outcome(self, call_id: str, call: JsonObject) -> JsonObject:
        self._calls[call_id] = status = ToolCallStatus(call["status"])
        self._waits.pop(call_id, None)
        if status is ToolCallStatus.COMPLETED:
            return _answered(call_id, call["result"])
        said: JsonObject = {"toolCallId": call_id, "dynamic": True, "providerExecuted": True}
        result = call["result"]
        text = result.get("error") if isinstance(result, dict) else None
        return {"type": "tool-output-error", **said, "errorText": str(text or "The call failed.")}

    # The end. ----------------------------------------------------------------------------------

    def _ended(self, data: JsonObject) -> Sequence[JsonObject]:
        status = TurnStatus(data["status"])
        made = [*self._closed(), *self._left(), self._turn(status, usage=data["usage"])]
        if status is TurnStatus.FAILED:
            return [*made, {"type": "error", "errorText": self._error}]
        if status is TurnStatus.CANCELLED:
            return [*made, {"type": "abort", "reason": _CANCELLED}]
        reason = data["finish_reason"]
        return [*made, {"type": "finish", "finishReason": _FINISH_REASONS.get(reason, "other")}]

    def _left(self) -> list[JsonObject]:
        """The ends of calls that ended with their turn."""
        return [
            {"type": "tool-output-error", "toolCallId": call_id, "errorText": _CANCELLED}
            for call_id, status in self._calls.items()
            if status in {ToolCallStatus.PENDING, ToolCallStatus.APPROVED}
        ]

    def _turn(self, status: TurnStatus, **more: object) -> JsonObject:
        """Which turn it is, and how far: replaced in place by the next one."""
        data = {**self._about, "status": status.value, "seq": self._seq, **more}
        return {"type": "data-turn", "id": self._about["turn_id"], "data": data}


def _called(call_id: str, name: str, arguments: JsonObject) -> JsonObject:
    """`providerExecuted`: the page is not to run it."""
    return {
        "type": "tool-input-available",
        "toolCallId": call_id,
        "toolName": name,
        "input": arguments,
        "dynamic": True,
        "providerExecuted": True,
    }


def _answered(call_id: str, output: object) -> JsonObject:
    shown = {"toolCallId": call_id, "dynamic": True, "providerExecuted": True, "output": output}
    return {"type": "tool-output-available", **shown}


def _approval(approval: JsonObject) -> JsonObject:
    shown = (
        *("id", "tool_call_id", "status", "reason", "expires_at"),
        *("decided_by", "decided_at", "comment", "quorum", "votes"),
    )
    data = {**{name: approval.get(name) for name in shown}, **whose(approval)}
    return {"type": "data-approval", "id": approval["id"], "data": data}
