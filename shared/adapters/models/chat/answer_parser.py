"""A streamed chat completion: bytes in, events out.

It parses plain JSON, since the client library's typed objects cost about ten times as much. Server differences are
normalised; the recorded cases are in tests/unit/models/streams.
"""

from __future__ import annotations

from typing import Any

from shared.adapters.models.chat.kept import KeptList
from shared.adapters.models.chat.request import EXTRA, KEPT_LISTS, REASONING_FIELDS
from shared.adapters.models.parser import AnswerParser
from shared.adapters.models.refusals.refusal import error_in
from shared.adapters.models.sse import EventStream, broken_off
from shared.adapters.models.text import as_text, label
from shared.adapters.models.usage import chat_usage
from shared.sessions.llm.protocol import ModelEnd
from shared.sessions.models import FinishReason, JsonObject, Usage

_REASONS = {
    **dict.fromkeys(
        ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"),
        FinishReason.LENGTH,
    ),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "prohibited_content", "blocklist", "spii"),
        FinishReason.CONTENT_FILTER,
    ),
    "sensitive": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.REFUSAL,
}
"""Finish reasons by the servers' words; any other word means that the answer is complete. Servers mix up `stop` and
`tool_calls`, so the presence of calls decides between them. Sources: OpenAI; Mistral, Anthropic and Gemini through
gateways, some in capitals; z.ai."""
_FAILED = frozenset(
    {"error", "abort", "aborted", "network_error", "insufficient_system_resource", "malformed_function_call"}
)
_COMPLETE = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


class ChatParser(AnswerParser):
    """One answer."""

    def __init__(self) -> None:
        super().__init__(EventStream())
        self._finish = ""
        self._is_whole = False
        self._is_refusal = False
        self._usage: Usage | None = None
        self._reasoning_field: str | None = None
        self._kept_lists: dict[str, KeptList] = {}
        self._id = ""
        self._model = ""

    @property
    def has_ended(self) -> bool:
        return bool(self._finish)

    def _take(self, event: Any) -> None:
        if "choices" not in event or "error" in event:
            error = error_in(event)
            if error is not None:
                raise error
        if not self._id:
            # Azure's first event, about the prompt filter, has empty ones.
            self._id, self._model = label(event.get("id")), label(event.get("model"))
        for choice in event.get("choices") or ():
            delta = choice.get("delta")
            if delta is None:
                self._take_whole(choice)
            else:
                # Fast path: nearly all deltas contain only text.
                content = delta.get("content") if len(delta) == 1 else None
                if type(content) is str:
                    self._pending.texts.append(content)
                else:
                    self._take_delta(delta)
            if choice.get("finish_reason"):
                self._finish = as_text(choice["finish_reason"])
                # Moonshot and Groq send usage here.
                self._take_usage(choice.get("usage") or (event.get("x_groq") or {}).get("usage"))
        if event.get("usage"):
            self._take_usage(event["usage"])

    def _take_usage(self, usage: Any) -> None:
        """Some servers send a running count with each event; the last one counts."""
        self._usage = chat_usage(usage) or self._usage

    def _take_whole(self, choice: JsonObject) -> None:
        """Read a complete message, from a server that ignores `stream`."""
        if choice.get("message") and not self.has_begun:
            self._take_delta(choice["message"])
            self._is_whole = True

    def _take_delta(self, delta: JsonObject) -> None:
        for key, value in delta.items():
            if not value or key == "role":
                continue
            if key == "content":
                if isinstance(value, str):
                    self._pending.texts.append(value)
                else:
                    self._take_parts(value)
            elif key == "tool_calls":
                for part in value:
                    self._calls.take(part)
                self.is_cut_short = self._calls.are_too_long
            elif key == "refusal":
                self._is_refusal = True
                self._pending.texts.append(as_text(value))
            elif key in REASONING_FIELDS:
                self._take_reasoning(key, delta)
            elif key in KEPT_LISTS:
                self._keep(key, value)

    def _take_reasoning(self, key: str, delta: JsonObject) -> None:
        # Some servers send the same text in two of the fields; the first non-empty one counts.
        if key == next(name for name in REASONING_FIELDS if delta.get(name)) and isinstance(delta[key], str):
            self._reasoning_field = key
            self._pending.think(delta[key])

    def _take_parts(self, content: Any) -> None:
        """Content as a list of parts (Mistral and others), some of them plain strings."""
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, str):
                self._pending.texts.append(part)
                continue
            kind = part.get("type")
            if kind == "thinking":
                thinking = part.get("thinking") or ()
                for piece in [thinking] if isinstance(thinking, str) else thinking:
                    self._pending.think(as_text(piece if isinstance(piece, str) else piece.get("text") or ""))
            elif kind in {"text", "output_text"}:
                self._pending.texts.append(as_text(part.get("text") or ""))
            elif kind == "refusal":
                self._is_refusal = True
                self._pending.texts.append(as_text(part.get("refusal") or ""))

    def _keep(self, name: str, items: Any) -> None:
        held = self._kept_lists.setdefault(name, KeptList())
        for item in items:
            self._pending.count(held.take(item))

    def _ending(self) -> ModelEnd:
        word = self._finish.lower()
        if word in _FAILED or not (word or self._is_whole or self._events.is_done or self.is_cut_short):
            raise broken_off()
        reason = _REASONS.get(word, FinishReason.STOP)
        is_cut = reason not in _COMPLETE
        calls, extras = self._calls.end(is_cut=is_cut)
        if not is_cut:
            if calls:
                reason = FinishReason.TOOL_CALLS
            elif self._is_refusal:
                reason = FinishReason.REFUSAL
        return ModelEnd(
            reason,
            self._usage,
            calls,
            self._kept(extras) if calls else [],
            response_id=self._id or None,
            response_model=self._model or None,
        )

    def _kept(self, extras: dict[str, JsonObject]) -> list[JsonObject]:
        """Items that some servers want back during the turn: their reasoning, and the extra content of calls."""
        kept: JsonObject = {}
        if self._reasoning_field is not None:
            kept[self._reasoning_field] = "".join(self._pending.told_thoughts)
        kept.update({name: held.end() for name, held in self._kept_lists.items()})
        if extras:
            kept[EXTRA] = extras
        return [kept] if kept else []
