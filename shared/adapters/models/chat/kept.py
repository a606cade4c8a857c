"""Assembles reasoning that some servers want back unchanged, from its deltas.

OpenRouter's `reasoning_details` and LiteLLM's `thinking_blocks` stream an entry's text in pieces, with the signature at
the end; encrypted entries come whole. The pieces must be joined, since the signature covers the whole text.
"""

from __future__ import annotations

from typing import Any

import orjson

from shared.adapters.models.sse import Endless
from shared.adapters.models.text import as_text, joined, storable
from shared.sessions.models import JsonObject

MAX_ENTRIES = 256

_TEXTS = {"reasoning.text": "text", "reasoning.summary": "summary", "thinking": "thinking"}
"""The text field of an entry, by its type."""


class _Entry:
    def __init__(self, first: JsonObject) -> None:
        self.fields = first
        self.pieces: list[str] = []

    def goes_on_with(self, item: JsonObject) -> bool:
        mine = self.fields
        return (
            mine.get("type") == item.get("type")
            and mine.get("index") == item.get("index")
            and not mine.get("signature")
        )


class KeptList:
    """One list of reasoning entries in an answer."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def take(self, item: JsonObject) -> int:
        """Add the next delta's item; returns its size in characters. Raises TypeError, ValueError, ModelFailed."""
        name = _TEXTS.get(item.get("type") or "")
        text = as_text(item.get(name) or "") if name is not None else ""
        fields = storable({key: value for key, value in item.items() if key != name})
        if name is not None and self._entries and self._entries[-1].goes_on_with(item):
            # Later pieces add fields, such as a signature or an id.
            self._entries[-1].fields.update({key: value for key, value in fields.items() if value is not None})
        else:
            if len(self._entries) >= MAX_ENTRIES:
                raise Endless
            self._entries.append(_Entry(fields))
        self._entries[-1].pieces.append(text)
        return len(orjson.dumps(fields)) + len(text)

    def end(self) -> list[JsonObject]:
        """The complete entries."""
        return [_whole(entry) for entry in self._entries]


def _whole(entry: _Entry) -> JsonObject:
    name = _TEXTS.get(entry.fields.get("type") or "")
    if name is None:
        return entry.fields
    text: Any = joined(entry.pieces).replace("\x00", "\ufffd")
    return {**entry.fields, name: text}
