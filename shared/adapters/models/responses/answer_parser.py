"""A streamed response of the Responses API: bytes in, events out.

Tool calls and reasoning items (here: notes) are read only when finished; events with pieces of a call are not even
decoded. A server that sends no separate items or no text deltas has both in its last event.
"""

from __future__ import annotations

from typing import Any

import orjson

from shared.adapters.models.parser import AnswerParser
from shared.adapters.models.refusals.refusal import error_in, refusal_of
from shared.adapters.models.sse import Endless, EventStream, broken_off
from shared.adapters.models.text import as_text, label, storable
from shared.adapters.models.usage import responses_usage
from shared.sessions.llm.conversation import MAX_ARGUMENT_CHARS, ModelToolCall
from shared.sessions.llm.protocol import ModelEnd, ModelEvent
from shared.sessions.models import FinishReason, JsonObject

_MAX_ITEMS = 1_000
_BYTES_PER_CHAR = 64
"""Of the pieces of a call: about 250 for each four characters."""
_NOTE_KEYS = ("type", "id", "summary", "content", "encrypted_content")
_SKIPPED = (
    b'data: {"type":"response.function_call_arguments.delta"',
    b'data: {"type": "response.function_call_arguments.delta"',
)
_ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}


class ResponsesParser(AnswerParser):
    """One answer."""

    def __init__(self) -> None:
        super().__init__(EventStream(skip=_SKIPPED))
        self._texts_at: set[Any] = set()
        """Output indexes whose text came in deltas; None for a server that sends no indexes."""
        self._thoughts_at: set[Any] = set()
        self._kinds: set[str] = set()
        """Types of the items that came as separate events."""
        self._items = 0
        self._kept: list[JsonObject] = []
        self._is_refusal = False
        self._opened: JsonObject | None = None
        """The call that is being written."""
        self._skipped_before = 0
        self._end: JsonObject | None = None
        self._status = ""
        self._id = ""
        self._model = ""

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        told = super().feed(chunk)
        is_long = self._skipped_chars > MAX_ARGUMENT_CHARS
        if is_long and self._opened is not None and not self.is_done:
            self.is_cut_short = self._give_up_call()
        return told

    def _give_up_call(self) -> bool:
        if self._opened is not None:
            item, self._opened = self._opened, None
            self._take_item(None, {**item, "arguments": None})
            return self._calls.give_up_last(max(self._skipped_chars, MAX_ARGUMENT_CHARS))
        return self._calls.are_too_long  # what is too long repeats it

    @property
    def _skipped_chars(self) -> int:
        return (self._events.skipped_bytes - self._skipped_before) // _BYTES_PER_CHAR

    @property
    def _is_complete(self) -> bool:
        return self._end is not None

    def _take(self, event: Any) -> None:
        kind = "" if isinstance(event, list) else event.get("type")
        if kind == "response.output_text.delta":
            self._pending.texts.append(as_text(event["delta"]))
            self._texts_at.add(event.get("output_index"))
        elif kind == "response.refusal.delta":
            self._is_refusal = True
            self._pending.texts.append(as_text(event["delta"]))
            self._texts_at.add(event.get("output_index"))
        elif kind in {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}:
            self._pending.think(as_text(event["delta"]))
            self._thoughts_at.add(event.get("output_index"))
        elif kind == "response.reasoning_summary_part.added":
            self._pending.break_thought()
        elif kind == "response.output_item.added":
            item = event["item"]
            self._opened = item if item.get("type") == "function_call" else None
            self._skipped_before = self._events.skipped_bytes
        elif kind == "response.output_item.done":
            item = event["item"]
            self._opened = None
            self._take_item(event.get("output_index"), item)
            self._kinds.add(item.get("type"))
        elif kind in {"response.created", "response.in_progress"}:
            self._take_names(event.get("response") or {})
        elif kind in _ENDS:
            self._take_end(_ENDS[kind], event["response"])
        elif not kind and not isinstance(event, list) and "output" in event and not event.get("error"):
            # A complete answer, from a server that ignores `stream`.
            self._take_end(event.get("status") or "completed", event)
        else:
            error = error_in(event)
            if error is not None:
                raise error

    def _take_names(self, response: JsonObject) -> None:
        self._id = label(response.get("id")) or self._id
        self._model = label(response.get("model")) or self._model

    def _take_end(self, status: str, response: JsonObject) -> None:
        if self._end is not None:
            return
        self._take_names(response)
        if status == "completed" and response.get("status") in _ENDS.values():
            status = response["status"]  # some servers send the same event for every ending
        if status == "failed":
            raise refusal_of({"error": response.get("error") or {}})
        is_told = bool(self._texts_at)
        for place, item in enumerate(response.get("output") or ()):
            # The last event repeats the items that came separately.
            if item.get("type") not in self._kinds:
                if is_told and item.get("type") == "message":
                    self._texts_at.add(place)
                self._take_item(place, item)
        self._status, self._end = status, response

    def _take_item(self, place: Any, item: JsonObject) -> None:
        self._items += 1
        if self._items > _MAX_ITEMS:
            raise Endless
        match item.get("type"):
            case "function_call":
                call_id, name = item.get("call_id") or item.get("id"), as_text(item["name"])
                function = {"name": name, "arguments": item.get("arguments")}
                # Each item is a separate call, whatever its id.
                self._calls.take({"index": self._items, "id": call_id, "function": function})
                self._kept.append({"type": "function_call"})
            case "reasoning":
                if not _was_streamed(place, self._thoughts_at):
                    self._tell_note(item)
                self._pending.break_thought()
                self._keep_note(item)
            case "message":
                if not _was_streamed(place, self._texts_at):
                    self._tell_message(item)
                phase = item.get("phase")
                self._kept.append({"type": "message", "phase": label(phase)} if phase else {"type": "message"})

    def _tell_message(self, item: JsonObject) -> None:
        for part in item.get("content") or ():
            if part.get("type") == "refusal":
                self._is_refusal = True
            self._pending.texts.append(as_text(part.get("refusal") or part.get("text") or ""))

    def _tell_note(self, item: JsonObject) -> None:
        for part in item.get("summary") or item.get("content") or ():
            self._pending.break_thought()
            self._pending.think(as_text(part.get("text") or ""))

    def _keep_note(self, item: JsonObject) -> None:
        note = {key: item[key] for key in _NOTE_KEYS if item.get(key) is not None}
        if not note.get("encrypted_content") and not note.get("content"):
            return  # the server does not store it, so it could not resolve the id
        note.setdefault("summary", [])
        note = storable(note)
        self._pending.count(len(orjson.dumps(note)))
        self._kept.append(note)

    def _ending(self) -> ModelEnd:
        end = self._end
        if end is None and self.is_cut_short:
            end = {}
        elif end is None and self._events.is_done and self.has_begun and self._opened is None:
            end = {}  # some servers say it as in a chat completion only
        elif end is None or self._status not in {"completed", "incomplete"}:
            raise broken_off()
        is_cut = self._status == "incomplete"
        calls, _ = self._calls.end(is_cut=is_cut)
        if is_cut:
            why = (end.get("incomplete_details") or {}).get("reason")
            reason = FinishReason.CONTENT_FILTER if why == "content_filter" else FinishReason.LENGTH
        elif calls:
            reason = FinishReason.TOOL_CALLS
        else:
            reason = FinishReason.REFUSAL if self._is_refusal else FinishReason.STOP
        return ModelEnd(
            reason,
            responses_usage(end.get("usage")),
            calls,
            self._named(calls),
            response_id=self._id or None,
            response_model=self._model or None,
        )

    def _named(self, calls: list[ModelToolCall]) -> list[JsonObject]:
        """The items to send back with the calls, in order; none if there are no calls."""
        ids = iter(calls)
        return [
            {**item, "call_id": next(ids).id} if item["type"] == "function_call" else item
            for item in self._kept
            if calls
        ]


def _was_streamed(place: Any, places: set[Any]) -> bool:
    """Whether an item's text came in deltas. Deltas without an index belong to the next item that is done."""
    found = place in places or None in places
    places.discard(None)
    return found
