"""The stream of a response, made from its turn's events.

    response.created, response.in_progress
      reasoning   output_item.added, reasoning_summary_part.added, reasoning_summary_text.delta ..., .done, .done, .done
      message     output_item.added, content_part.added, output_text.delta ..., .done, .done, .done
      approval    output_item.added, output_item.done: `mcp_approval_request`
      call        output_item.added, mcp_call.in_progress, mcp_call_arguments.done, mcp_call.completed | .failed, .done
      function    output_item.added, function_call_arguments.delta, .done, .done: for the client to run, after all else
    response.completed | response.incomplete | response.failed

Invariant: a part has the same `sequence_number` whenever it is told, since the number is made of its event's: a client
that says which one it had last gets what came after it. One event makes at most `_PARTS` parts.

Text cannot be taken back on this wire. An answer that begins again ends its item as `incomplete` and opens another; the
response at the end holds the second only. A call is shown once it runs, not when it is proposed: whether a person must
decide first is not known before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.sessions.doors.progress import call_of
from shared.sessions.doors.responses.items import (
    Head,
    Spent,
    approval_item,
    as_text,
    call_item,
    function_item,
    response_object,
)
from shared.sessions.doors.responses.writing import Part, Writing, added, done
from shared.sessions.doors.whose import whose
from shared.sessions.events import EventType, FrameType
from shared.sessions.live.sse import KEEP_ALIVE, sse
from shared.sessions.models import FinishReason, JsonObject, TurnStatus, WaitKind

_PARTS = 256
INPUT_REQUIRED = "input_required"
"""Why a response is incomplete whose turn waits for its user's answers to questions."""
_BROKEN_OFF = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
"""Answers that are no whole ones, and why."""
_BEGINS = frozenset(
    {
        EventType.TOOL_CALL_APPROVED,
        EventType.TOOL_CALL_REJECTED,
        EventType.TOOL_CALL_ANSWERED,
        EventType.TOOL_CALL_COMPLETED,
        EventType.TOOL_CALL_FAILED,
    }
)
"""With the first of these of a call, the response to its decision or its answer begins. The store may know the outcome
only."""


@dataclass(slots=True)
class _Call:
    """A tool call of the turn."""

    id: str
    tool: str
    arguments: str
    approval_id: str | None = None
    named: JsonObject | None = None
    """Of a subagent's: whose it is."""
    index: int | None = None
    """In the output, once it runs."""
    is_client: bool = False
    """The client runs it."""
    is_past: bool = False
    """Of a client: it was in a response before this one."""


class ResponsesDoor:
    """One stream of one response."""

    def __init__(self, head: Head, starting_after: int | None = None) -> None:
        """starting_after: the `sequence_number` that the client had last; None: it has had nothing."""
        self._head = head
        self._had = -1 if starting_after is None else starting_after
        self._number = 0
        self._is_open = head.id.decided_call is None
        self._output: list[JsonObject | None] = []
        self._answer = Writing(self._output)
        self._answer_calls: set[str] = set()
        self._calls: dict[str, _Call] = {}
        self._asked: set[str] = set()
        self._waiting: dict[str, JsonObject] = {}
        """Approvals that are open, by tool call."""
        self._asking: dict[str, JsonObject] = {}
        """Other waits that are open, by tool call: those for the client, and questions to its user."""
        self._spent = Spent()
        self._error: JsonObject | None = None
        self._status = "in_progress"
        self._end: JsonObject = {}

    # The door. ---------------------------------------------------------------------------------

    def begin(self) -> Sequence[JsonObject]:
        begun = response_object(self._head, "in_progress", [])
        self._number = 0
        return self._new([("response.created", {"response": begun}), ("response.in_progress", {"response": begun})])

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        seq = envelope.get("seq")
        if seq is None:
            # Told from the store: behind everything that the client had.
            self._number = max(self._number, self._had + 1)
        else:
            self._number = max(self._number, seq * _PARTS)
        kind = envelope["type"]
        data = envelope["data"]
        if kind in _BEGINS and call_of(envelope) == self._begins_with:
            self._open()
        if kind == EventType.STREAM_CHUNK:
            made = self._of_frame(data["frame"], envelope.get("message_id"))
        else:
            made = self._of_event(kind, data)
        return self._new(made) if self._is_open else []

    def waiting(self) -> Sequence[JsonObject]:
        self._open()  # a vote that decided nothing yet: it is asked again
        made: list[Part] = []
        for approval in list(self._waiting.values()):
            made += self._ask(approval)
        of_client = [self._calls[call_id] for call_id, wait in self._asking.items() if wait["kind"] == WaitKind.CLIENT]
        for call in of_client:
            call.is_past = False
            made += self._function(call)
        # A question has no word on this wire: who only waits for its answer has nothing whole.
        self._status = "completed" if self._waiting or of_client else "incomplete"
        self._end = {} if self._status == "completed" else {"incomplete": INPUT_REQUIRED}
        asked = self._new(made)
        # Whoever had this end already, and asks again while nothing was decided, is told of it again.
        self._number = max(self._number, self._had + 1)
        return [*asked, *self._new([(f"response.{self._status}", {"response": self.response()})])]

    def cut(self) -> Sequence[JsonObject]:
        return []

    def encode(self, part: JsonObject) -> bytes:
        return sse(part["type"], orjson.dumps(part))

    @property
    def heartbeat(self) -> bytes:
        return KEEP_ALIVE

    @property
    def closing(self) -> bytes:
        return b""

    def response(self) -> JsonObject:
        """The response as far as it was told."""
        output = [item for item in self._output if item is not None]
        usage = None if self._status == "in_progress" else self._spent.shown()
        return response_object(self._head, self._status, output, usage=usage, **self._end)

    # What it makes. ----------------------------------------------------------------------------

    @property
    def _begins_with(self) -> str | None:
        return self._head.id.decided_call

    def _new(self, made: Sequence[Part]) -> list[JsonObject]:
        """Numbered, without what the client has had."""
        parts: list[JsonObject] = []
        for kind, fields in made:
            if self._number > self._had:
                parts.append({"type": kind, "sequence_number": self._number, **fields})
            self._number += 1
        return parts

    def _open(self) -> None:
        """The response begins here: what came before is another's."""
        if self._is_open:
            return
        self._is_open = True
        self._output.clear()
        self._asked.clear()
        self._spent = Spent()
        for call in self._calls.values():
            call.index, call.is_past = None, call.is_client

    def _of_event(self, kind: str, data: JsonObject) -> list[Part]:
        match kind:
            case EventType.TOOL_CALL_PENDING:
                approval = data["approval"]
                call = self._call(data["tool_call_id"], approval["tool"], approval["arguments"])
                call.approval_id, call.named = approval["id"], whose(approval)
                self._waiting[call.id] = approval
                return self._ask(approval)
            case EventType.TOOL_CALL_APPROVED:
                approval = data["approval"]
                self._waiting.pop(data["tool_call_id"], None)
                call = self._call(data["tool_call_id"], approval["tool"], approval["arguments"])
                call.approval_id = approval["id"]
                if approval.get("decided_arguments") is not None:
                    call.arguments = as_text(approval["decided_arguments"])
                return [] if call.is_client else self._run(call)
            case EventType.TOOL_CALL_WAITING | EventType.TOOL_CALL_ANSWERED:
                return self._wait(kind, data["wait"])
            case EventType.TOOL_CALL_PROGRESS:
                found = self._calls.get(data["tool_call"]["id"])
                return [] if found is None else self._run(found)
            case EventType.TOOL_CALL_COMPLETED | EventType.TOOL_CALL_FAILED | EventType.TOOL_CALL_REJECTED:
                return self._ended(kind, data)
            case EventType.ERROR_OCCURRED:
                self._error = {"code": _error_code(data["code"]), "message": f"{data['code']}: {data['detail']}"}
            case EventType.STREAM_ENDED:
                return self._over(data)
        return []

    def _of_frame(self, frame: JsonObject, message_id: str | None) -> list[Part]:
        match frame["type"]:
            case FrameType.MESSAGE_START if message_id is not None:
                made = self._abandoned() if self._answer.message_id == message_id else []
                self._answer.begin(message_id, frame["attempt"])
                return made
            case FrameType.REASONING_DELTA:
                return self._answer.reasons(frame["text"])
            case FrameType.CONTENT_DELTA:
                return self._answer.says(frame["text"])
            case FrameType.TOOL_CALL:
                call = self._call(frame["id"], frame["name"], frame["arguments"])
                call.is_client = bool(frame.get("is_client"))
                self._answer_calls.add(frame["id"])
            case FrameType.MESSAGE_END:
                self._answer_calls.clear()
                return self._answered(frame)
        return []

    def _place(self, item: JsonObject | None = None) -> int:
        self._output.append(item)
        return len(self._output) - 1

    def _abandoned(self) -> list[Part]:
        """An answer begins again: what was said of it does not count."""
        for call_id in self._answer_calls:
            self._calls.pop(call_id, None)
        self._answer_calls.clear()
        return self._answer.abandon()

    def _answered(self, frame: JsonObject) -> list[Part]:
        is_whole = frame["finish_reason"] in {FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.REFUSAL}
        if frame["usage"] is not None:
            self._spent.add(frame["usage"])
        return self._answer.end("completed" if is_whole else "incomplete")

    def _call(self, call_id: str, tool: str, arguments: Any) -> _Call:
        return self._calls.setdefault(call_id, _Call(call_id, tool, as_text(arguments)))

    def _ask(self, approval: JsonObject) -> list[Part]:
        if not self._is_open or approval["id"] in self._asked:
            return []
        self._asked.add(approval["id"])
        item = approval_item(approval)
        index = self._place(item)
        return [added(index, item), done(index, item)]

    def _wait(self, kind: str, wait: JsonObject) -> list[Part]:
        """A call waits for the client, its user, or a result from elsewhere; or does no more."""
        call = self._calls.get(wait["tool_call_id"])
        if kind == EventType.TOOL_CALL_ANSWERED or call is None:
            self._asking.pop(wait["tool_call_id"], None)
            return []
        if wait["kind"] != WaitKind.RESULT:
            self._asking[call.id] = wait
        if wait["kind"] == WaitKind.CLIENT:
            # It is shown when the response ends, or it does: the client answers no sooner, and whoever retrieves the
            # response finds its items in the same order.
            call.is_client = True
            return []
        made = self._run(call)
        if call.index is not None:
            self._output[call.index] = {**(self._output[call.index] or {}), "wait": wait}
        return made

    def _function(self, call: _Call) -> list[Part]:
        """A call that the client runs; once in a response."""
        if not self._is_open or call.index is not None or call.is_past:
            return []
        item = function_item(call.id, call.tool, call.arguments)
        call.index = self._place(item)
        where = {"item_id": item["id"], "output_index": call.index}
        return [
            added(call.index, {**item, "arguments": "", "status": "in_progress"}),
            ("response.function_call_arguments.delta", {**where, "delta": call.arguments}),
            ("response.function_call_arguments.done", {**where, "name": call.tool, "arguments": call.arguments}),
            done(call.index, item),
        ]

    def _run(self, call: _Call) -> list[Part]:
        if not self._is_open or call.index is not None:
            return []
        item = call_item(call.id, call.tool, call.arguments, call.approval_id, call.named)
        call.index = self._place(item)
        where = {"item_id": item["id"], "output_index": call.index}
        return [
            added(call.index, item),
            ("response.mcp_call.in_progress", where),
            ("response.mcp_call_arguments.done", {**where, "arguments": call.arguments}),
        ]

    def _ended(self, kind: str, data: JsonObject) -> list[Part]:
        told, approval = data.get("tool_call", {}), data.get("approval")
        call_id = told["id"] if told else data["tool_call_id"]
        self._waiting.pop(call_id, None)
        self._asking.pop(call_id, None)
        call = self._calls.get(call_id)
        if call is None or not self._is_open:
            return []
        if call.is_client:
            return self._function(call)
        if approval is not None:
            call.approval_id = approval["id"]
        made = self._run(call)
        assert call.index is not None
        item = dict(self._output[call.index] or {})
        if item.get("status") != "in_progress":
            return []  # its end was told already
        item.pop("wait", None)
        has_worked = kind == EventType.TOOL_CALL_COMPLETED
        if has_worked:
            item |= {"status": "completed", "output": as_text(told.get("result"))}
        else:
            content = told.get("result") if approval is None else _refusal(approval)
            item |= {"status": "failed", "error": {"type": "mcp_tool_execution_error", "content": content}}
        self._output[call.index] = item
        where = {"item_id": item["id"], "output_index": call.index}
        ending = "response.mcp_call.completed" if has_worked else "response.mcp_call.failed"
        return [*made, (ending, where), done(call.index, item)]

    def _over(self, data: JsonObject) -> list[Part]:
        made = self._abandoned() if self._answer.message_id is not None else []
        if self._begins_with is None and data["usage"] is not None:
            self._spent = Spent()
            self._spent.add(data["usage"])
        reason = _BROKEN_OFF.get(data["finish_reason"])
        if data["status"] == TurnStatus.FAILED:
            failed = {"code": "server_error", "message": "The turn failed."}
            self._status, self._end = "failed", {"error": self._error or failed}
        elif data["status"] == TurnStatus.CANCELLED:
            self._status = "cancelled"
        elif reason is not None:
            self._status, self._end = "incomplete", {"incomplete": reason}
        else:
            self._status = "completed"
        # The wire has no event of its own for a cancelled response.
        kind = self._status if self._status in {"completed", "failed"} else "incomplete"
        return [*made, (f"response.{kind}", {"response": self.response()})]


def _error_code(code: str) -> str:
    return "rate_limit_exceeded" if code == "RATE_LIMITED" else "server_error"


def _refusal(approval: JsonObject) -> str:
    by = f" by {approval['decided_by']}" if approval.get("decided_by") else ""
    comment = f": {approval['comment']}" if approval.get("comment") else ""
    return f"{'Timed out' if approval['status'] == 'timed_out' else 'Rejected'}{by}{comment}"
