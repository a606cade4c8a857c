"""A run, made from its turn's events. One turn is several runs where people decide in between.

    RUN_STARTED
      REASONING_START, REASONING_MESSAGE_START, _CONTENT ..., _END, REASONING_END
      TEXT_MESSAGE_START, _CONTENT ..., _END
      TOOL_CALL_START, _ARGS, _END; later TOOL_CALL_RESULT
    RUN_FINISHED (success, cancelled, or interrupt with what waits for people) | RUN_ERROR

A call of a subagent that people are asked about is told as a call of a message of its own, in the subagent's name
(`subagentRunId`), when it waits for them; its interrupt has that name, too. Nothing else of subagents is told.

A call of a tool of the client is told once it waits for the client, and has no TOOL_CALL_RESULT where the client gives
one: the run that ends then names it in `pendingToolCallIds`.

Text is taken back by MESSAGES_SNAPSHOT: when an answer begins again, the client gets its own messages and what the run
has told, without the first try. What begins again has ids of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.sessions.doors.whose import asking, whose
from shared.sessions.events import EventType, FrameType
from shared.sessions.live.sse import KEEP_ALIVE
from shared.sessions.models import JsonObject, TurnStatus, WaitKind

PROTOCOL_VERSION = "1.0"
INTERRUPT_REASON = "tool_call"
INPUT_REASON = "input_required"
RESPONSE_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "comment": {"type": "string", "maxLength": 2000},
        "arguments": {"type": "object", "description": "Approve with these arguments instead"},
    },
    "required": ["approved"],
    "additionalProperties": False,
}
"""Of the payload by which an interrupt is answered."""
RECONNECT = "RECONNECT"
"""Code of the RUN_ERROR that ends a run whose stream has been open for long. The turn goes on."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the client says of a run. messages: its own, to be kept when a snapshot takes text back."""

    thread_id: str
    run_id: str
    messages: Sequence[JsonObject]
    is_told_again: bool = False
    """`messages` end before what the client has of this turn, which is told from its beginning."""


class AgUiDoor:
    """One run of one turn."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._told: list[JsonObject] = []
        """Messages that this run has told to their end."""
        self._answer: JsonObject | None = None
        """The one that is being told, as the client has it."""
        self._attempt = 1
        self._message_id = ""
        self._reasoning_id: str | None = None
        self._is_text_open = False
        self._calls: set[str] = set()
        """That this run, or one before it, has told."""
        self._runs: dict[str, str] = {}
        """Turns of subagents, by their calls that people are asked about."""
        self._waiting: dict[str, JsonObject] = {}
        """Approvals that are open, by tool call."""
        self._asking: dict[str, JsonObject] = {}
        """Other waits that are open, by tool call: those for the client, and questions to its user."""
        self._held: dict[str, tuple[JsonObject, JsonObject]] = {}
        """Frames of calls of the client's tools that do not wait for it yet, each with its answer."""
        self._given = {message.get("toolCallId") for message in run.messages if message.get("role") == "tool"}
        self._error: JsonObject | None = None

    # The door. ---------------------------------------------------------------------------------

    def begin(self) -> Sequence[JsonObject]:
        started = self._of_run("RUN_STARTED", protocolVersion=PROTOCOL_VERSION)
        return [started, self._snapshot()] if self._run.is_told_again else [started]

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        data = envelope["data"]
        match envelope["type"]:
            case EventType.STREAM_CHUNK:
                return self._of_frame(data["frame"], envelope.get("message_id"))
            case EventType.TOOL_CALL_PENDING:
                self._waiting[data["tool_call_id"]] = data["approval"]
                if "subagent" in envelope:
                    return self._asks_below(data["approval"], envelope["subagent"])
            case EventType.TOOL_CALL_APPROVED:
                self._waiting.pop(data["tool_call_id"], None)
                self._change(data["tool_call_id"], data["approval"].get("decided_arguments"))
            case EventType.TOOL_CALL_WAITING:
                return self._wait(data["wait"])
            case EventType.TOOL_CALL_ANSWERED:
                self._asking.pop(data["wait"]["tool_call_id"], None)
            case EventType.TOOL_CALL_COMPLETED | EventType.TOOL_CALL_FAILED | EventType.TOOL_CALL_REJECTED:
                return self._result(data)
            case EventType.ERROR_OCCURRED:
                self._error = data
            case EventType.STREAM_ENDED:
                return [*self._close(), self._over(data)]
        return []

    def waiting(self) -> Sequence[JsonObject]:
        interrupts: list[JsonObject] = [
            {
                "id": approval["id"],
                "reason": INTERRUPT_REASON,
                "message": asking(approval),
                "toolCallId": call_id,
                "responseSchema": RESPONSE_SCHEMA,
                "expiresAt": approval["expires_at"],
                "metadata": {"tool": approval["tool"], "arguments": approval["arguments"], **whose(approval)},
                **self._named(call_id),
            }
            for call_id, approval in self._waiting.items()
        ]
        interrupts += [_question(wait) for wait in self._asking.values() if wait["kind"] == WaitKind.INPUT]
        if interrupts:
            return [self._of_run("RUN_FINISHED", outcome={"type": "interrupt", "interrupts": interrupts})]
        pending = [call_id for call_id, wait in self._asking.items() if wait["kind"] == WaitKind.CLIENT]
        return [self._of_run("RUN_FINISHED", outcome={"type": "success", "pendingToolCallIds": pending})]

    def cut(self) -> Sequence[JsonObject]:
        message = "The stream has been open for as long as one may be. Run the agent again to read on."
        return [*self._close(), {"type": "RUN_ERROR", "code": RECONNECT, "message": message}]

    def encode(self, part: JsonObject) -> bytes:
        return b"data: %b\n\n" % orjson.dumps(part)

    @property
    def heartbeat(self) -> bytes:
        return KEEP_ALIVE

    @property
    def closing(self) -> bytes:
        return b""

    # What it makes. ----------------------------------------------------------------------------

    def _of_run(self, kind: str, **fields: Any) -> JsonObject:
        return {"type": kind, "threadId": self._run.thread_id, "runId": self._run.run_id, **fields}

    def _snapshot(self) -> JsonObject:
        # The client has posted what earlier runs of the turn have told.
        messages = {message["id"]: message for message in [*self._run.messages, *self._told]}
        return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages.values())}

    def _of_frame(self, frame: JsonObject, message_id: str | None) -> list[JsonObject]:
        match frame["type"]:
            case FrameType.MESSAGE_START if message_id is not None:
                return self._begins(message_id, frame["attempt"])
            case FrameType.REASONING_DELTA:
                return self._reasons(frame["text"])
            case FrameType.CONTENT_DELTA:
                return self._says(frame["text"])
            case FrameType.TOOL_CALL:
                return self._proposes(frame)
            case FrameType.MESSAGE_END:
                made = self._close()
                if self._answer is not None:
                    self._told.append(self._answer)
                    self._answer = None
                return made
        return []

    def _begins(self, message_id: str, attempt: int) -> list[JsonObject]:
        made: list[JsonObject] = []
        if self._answer is not None and self._message_id == message_id:
            made = [*self._close(), self._snapshot()]
            self._calls -= {call["id"] for call in self._answer.get("toolCalls", ())}
        self._message_id, self._attempt, self._answer = message_id, attempt, None
        return made

    def _id(self, prefix: str = "") -> str:
        """Of the answer's parts: another attempt is another message."""
        return f"{prefix}{self._message_id}" + ("" if self._attempt == 1 else f"-{self._attempt}")

    def _written(self) -> JsonObject:
        """The answer as the client has it."""
        if self._answer is None:
            self._answer = {"id": self._id(), "role": "assistant"}
        return self._answer

    def _reasons(self, text: str) -> list[JsonObject]:
        made: list[JsonObject] = []
        if self._reasoning_id is None:
            self._reasoning_id = self._id("reasoning-")
            made = [
                {"type": "REASONING_START", "messageId": self._reasoning_id},
                {"type": "REASONING_MESSAGE_START", "messageId": self._reasoning_id, "role": "reasoning"},
            ]
            self._written()
        return [*made, {"type": "REASONING_MESSAGE_CONTENT", "messageId": self._reasoning_id, "delta": text}]

    def _says(self, text: str) -> list[JsonObject]:
        made = self._end_reasoning()
        answer = self._written()
        if not self._is_text_open:
            self._is_text_open = True
            answer["content"] = ""
            made.append({"type": "TEXT_MESSAGE_START", "messageId": answer["id"], "role": "assistant"})
        answer["content"] += text
        return [*made, {"type": "TEXT_MESSAGE_CONTENT", "messageId": answer["id"], "delta": text}]

    def _proposes(self, frame: JsonObject) -> list[JsonObject]:
        call_id = frame["id"]
        if call_id in self._calls:
            return []
        answer = self._written()
        if frame.get("is_client"):
            self._held[call_id] = frame, answer
            return []
        return [*self._close(), *self._tell(frame, answer)]

    def _tell(self, frame: JsonObject, answer: JsonObject) -> list[JsonObject]:
        call_id = frame["id"]
        self._calls.add(call_id)
        arguments = orjson.dumps(frame["arguments"], option=orjson.OPT_SORT_KEYS).decode()
        function = {"name": frame["name"], "arguments": arguments}
        answer.setdefault("toolCalls", []).append({"id": call_id, "type": "function", "function": function})
        start = {"toolCallId": call_id, "toolCallName": frame["name"], "parentMessageId": answer["id"]}
        return [
            {"type": "TOOL_CALL_START", **start},
            {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": arguments},
            {"type": "TOOL_CALL_END", "toolCallId": call_id},
        ]

    def _asks_below(self, approval: JsonObject, subagent: JsonObject) -> list[JsonObject]:
        """A call of a subagent waits for people."""
        call_id = approval["tool_call_id"]
        if call_id in self._calls:
            return []
        self._runs[call_id] = subagent["turn_id"]
        answer = {"id": f"asked-{call_id}", "role": "assistant", **self._named(call_id)}
        self._told.append(answer)
        frame = {"id": call_id, "name": approval["tool"], "arguments": approval["arguments"]}
        return [{**part, **self._named(call_id)} for part in self._tell(frame, answer)]

    def _named(self, call_id: str) -> JsonObject:
        """In whose name a call is told: a subagent's, or nobody's, which is the agent's own."""
        run = self._runs.get(call_id)
        return {} if run is None else {"subagentRunId": run}

    def _change(self, call_id: str, arguments: JsonObject | None) -> None:
        """A person has approved a call of the client with these arguments instead."""
        if arguments is not None and call_id in self._held:
            frame, answer = self._held[call_id]
            self._held[call_id] = {**frame, "arguments": arguments}, answer

    def _offer(self, call_id: str) -> list[JsonObject]:
        held = self._held.pop(call_id, None)
        return [] if held is None else self._tell(*held)

    def _wait(self, wait: JsonObject) -> list[JsonObject]:
        if wait["kind"] == WaitKind.RESULT:
            return []
        self._asking[wait["tool_call_id"]] = wait
        return self._offer(wait["tool_call_id"]) if wait["kind"] == WaitKind.CLIENT else []

    def _result(self, data: JsonObject) -> list[JsonObject]:
        call, approval = data.get("tool_call"), data.get("approval")
        call_id = data["tool_call_id"] if call is None else call["id"]
        self._waiting.pop(call_id, None)
        self._asking.pop(call_id, None)
        offered = self._offer(call_id)
        if call_id in self._given:
            return offered  # the client has it, under an id of its own
        result = call.get("result") if call is not None else _refusal(approval or {})
        content = result if isinstance(result, str) else orjson.dumps(result).decode()
        named = self._named(call_id)
        message = {"id": f"result-{call_id}", "role": "tool", "toolCallId": call_id, "content": content, **named}
        self._told.append(message)
        fields = {"messageId": message["id"], "toolCallId": call_id, "content": content, "role": "tool", **named}
        return [*offered, {"type": "TOOL_CALL_RESULT", **fields}]

    def _end_reasoning(self) -> list[JsonObject]:
        if self._reasoning_id is None:
            return []
        reasoning_id, self._reasoning_id = self._reasoning_id, None
        return [
            {"type": "REASONING_MESSAGE_END", "messageId": reasoning_id},
            {"type": "REASONING_END", "messageId": reasoning_id},
        ]

    def _close(self) -> list[JsonObject]:
        """End what is open of the answer."""
        made = self._end_reasoning()
        if self._is_text_open:
            self._is_text_open = False
            made.append({"type": "TEXT_MESSAGE_END", "messageId": self._written()["id"]})
        return made

    def _over(self, data: JsonObject) -> JsonObject:
        usage = [_usage(data["usage"])] if data["usage"] is not None else []
        if data["status"] == TurnStatus.FAILED:
            error = self._error or {"code": "INTERNAL_ERROR", "detail": "The turn failed."}
            return {"type": "RUN_ERROR", "code": error["code"], "message": error["detail"], "usage": usage}
        outcome = "cancelled" if data["status"] == TurnStatus.CANCELLED else "success"
        return self._of_run("RUN_FINISHED", outcome={"type": outcome}, usage=usage)


def _question(wait: JsonObject) -> JsonObject:
    """What a call asks its user, as an interrupt: its answer has each question's content under its id, or null for
    no."""
    forms = {
        question["id"]: {"description": question["message"], "anyOf": [question["requested_schema"], {"type": "null"}]}
        for question in wait["questions"]
    }
    return {
        "id": f"{wait['tool_call_id']}.{wait['id']}",
        "reason": INPUT_REASON,
        "message": " ".join(question["message"] for question in wait["questions"]),
        "toolCallId": wait["tool_call_id"],
        "responseSchema": {
            "type": "object",
            "properties": forms,
            "required": list(forms),
            "additionalProperties": False,
        },
        "expiresAt": wait["expires_at"],
        "metadata": {"asked_by": wait["asked_by"], "asked_of": wait["asked_of"]},
    }


def _usage(usage: JsonObject) -> JsonObject:
    return {
        "inputTokens": usage["input_tokens"],
        "outputTokens": usage["output_tokens"],
        "totalTokens": usage["input_tokens"] + usage["output_tokens"],
        "reasoningTokens": usage.get("reasoning_tokens", 0),
        "cachedInputTokens": usage.get("cached_input_tokens", 0),
    }


def _refusal(approval: JsonObject) -> str:
    by = f" by {approval['decided_by']}" if approval.get("decided_by") else ""
    comment = f": {approval['comment']}" if approval.get("comment") else ""
    return f"{'Timed out' if approval.get('status') == 'timed_out' else 'Rejected'}{by}{comment}"
