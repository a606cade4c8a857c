"""Collects an answer's text and reasoning between the parser and the reader."""

from __future__ import annotations

from shared.adapters.models.sse import Endless
from shared.adapters.models.text import Joiner
from shared.sessions.llm.protocol import ModelEvent, ModelReasoning, ModelText

MAX_CHARS = 8 * 1024 * 1024
"""Of text, reasoning and stored items together."""

_PARAGRAPH = "\n\n"


class PendingText:
    """The output of one answer. texts, thoughts: pieces that have arrived and are not returned yet, in order."""

    __slots__ = ("_breaks", "_chars", "_text", "_thought", "texts", "thoughts", "told_thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.told_thoughts: list[str] = []
        self._text = Joiner()
        self._thought = Joiner()
        self._chars = 0
        self._breaks = False

    @property
    def has_begun(self) -> bool:
        """Whether anything visible to a reader has arrived."""
        return bool(self._chars or self.texts or self.thoughts)

    def think(self, text: str) -> None:
        """Add reasoning; after `break_thought` it begins a new paragraph."""
        if text:
            if self._breaks and (self.thoughts or self.told_thoughts):
                self.thoughts.append(_PARAGRAPH)
            self._breaks = False
            self.thoughts.append(text)

    def break_thought(self) -> None:
        self._breaks = True

    def count(self, chars: int) -> None:
        """Raises ModelFailed beyond MAX_CHARS."""
        self._chars += chars
        if self._chars > MAX_CHARS:
            raise Endless

    def take(self) -> list[ModelEvent]:
        """The events not returned yet. Raises ModelFailed."""
        told: list[ModelEvent] = []
        if self.thoughts:
            thought = self._thought.take("".join(self.thoughts))
            self.thoughts.clear()
            self._tell_thought(thought, told)
        if self.texts:
            text = self._text.take("".join(self.texts))
            self.texts.clear()
            if text:
                self.count(len(text))
                told.append(ModelText(text))
        return told

    def end(self) -> list[ModelEvent]:
        """The remaining events, after the end of the stream."""
        told = self.take()
        self._tell_thought(self._thought.end(), told)
        left = self._text.end()
        if left:
            told.append(ModelText(left))
        return told

    def _tell_thought(self, thought: str, told: list[ModelEvent]) -> None:
        if thought:
            self.count(len(thought))
            self.told_thoughts.append(thought)
            told.append(ModelReasoning(thought))
