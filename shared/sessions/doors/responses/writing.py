"""The answer of a response while it is written: its reasoning and its text, as items of the output.

Not here: calls, approvals, and where a response begins and ends (`door.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.sessions.doors.responses.items import message_item, reasoning_item, summary_part, text_part
from shared.sessions.models import JsonObject

type Part = tuple[str, JsonObject]
"""An event's type and its fields, not numbered yet."""


@dataclass(slots=True)
class _Item:
    """Text or reasoning that is being written."""

    id: str
    index: int
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Writing:
    """output: the response's, in which each item takes its place; None where one did not count."""

    def __init__(self, output: list[JsonObject | None]) -> None:
        self._output = output
        self._ids: set[str] = set()
        self._message: tuple[str, int] | None = None
        """The answer, and which attempt of it."""
        self._reasoning: _Item | None = None
        self._text: _Item | None = None

    @property
    def message_id(self) -> str | None:
        """Of the answer that is being written."""
        return None if self._message is None else self._message[0]

    def begin(self, message_id: str, attempt: int) -> None:
        self._message = message_id, attempt

    def reasons(self, text: str) -> list[Part]:
        made: list[Part] = []
        if self._reasoning is None:
            self._reasoning = _Item(self._item_id("rs"), self._place())
            made = [
                added(self._reasoning.index, reasoning_item(self._reasoning.id, "in_progress")),
                _part("response.reasoning_summary_part.added", self._reasoning, summary_index=0, part=summary_part("")),
            ]
        self._reasoning.texts.append(text)
        kind = "response.reasoning_summary_text.delta"
        return [*made, _part(kind, self._reasoning, summary_index=0, delta=text)]

    def says(self, text: str) -> list[Part]:
        made: list[Part] = []
        if self._text is None:
            self._text = _Item(self._item_id("msg"), self._place())
            made = [
                added(self._text.index, message_item(self._text.id, "in_progress")),
                _part("response.content_part.added", self._text, content_index=0, part=text_part("")),
            ]
        self._text.texts.append(text)
        kind = "response.output_text.delta"
        return [*made, _part(kind, self._text, content_index=0, delta=text, logprobs=[])]

    def end(self, status: str) -> list[Part]:
        """The answer is over."""
        made: list[Part] = []
        for item in (self._reasoning, self._text):
            if item is not None:
                made += self._ended(item, status)
        self._reasoning = self._text = self._message = None
        return made

    def abandon(self) -> list[Part]:
        """It begins again: what was said of it does not count."""
        made: list[Part] = []
        for item in (self._reasoning, self._text):
            if item is not None:
                made += self._ended(item, "incomplete")
                self._output[item.index] = None
        self._reasoning = self._text = None
        return made

    def _ended(self, item: _Item, status: str) -> list[Part]:
        if item is self._reasoning:
            summary = summary_part(item.text)
            whole = reasoning_item(item.id, status, [summary])
            made = [
                _part("response.reasoning_summary_text.done", item, summary_index=0, text=item.text),
                _part("response.reasoning_summary_part.done", item, summary_index=0, part=summary),
            ]
        else:
            part = text_part(item.text)
            whole = message_item(item.id, status, [part])
            made = [
                _part("response.output_text.done", item, content_index=0, text=item.text, logprobs=[]),
                _part("response.content_part.done", item, content_index=0, part=part),
            ]
        self._output[item.index] = whole
        return [*made, done(item.index, whole)]

    def _place(self) -> int:
        self._output.append(None)
        return len(self._output) - 1

    def _item_id(self, prefix: str) -> str:
        assert self._message is not None
        message_id, attempt = self._message
        item_id = f"{prefix}_{message_id}"
        if item_id in self._ids:
            item_id = f"{item_id}_{attempt}"  # of a try that did not count
        self._ids.add(item_id)
        return item_id


def added(index: int, item: JsonObject) -> Part:
    return "response.output_item.added", {"output_index": index, "item": item}


def done(index: int, item: JsonObject) -> Part:
    return "response.output_item.done", {"output_index": index, "item": item}


def _part(kind: str, item: _Item, **fields: Any) -> Part:
    return kind, {"item_id": item.id, "output_index": item.index, **fields}
