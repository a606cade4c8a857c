"""What an answer has told so far, on its way to its reader: text, and reasoning beside it."""

from __future__ import annotations

from shared.adapters.models.sse import endless
from shared.adapters.models.text import Joiner
from shared.sessions.llm.protocol import ModelEvent, ModelReasoning, ModelText

MAX_CHARS = 8 * 1024 * 1024
"""Of text, reasoning and all that is kept beside them."""

_PARAGRAPH = "\n\n"


class Telling:
    """Of one answer. texts and thoughts: pieces that have come and nobody has been told yet, in order."""

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
        """Anything has come that a reader sees."""
        return bool(self._chars or self.texts or self.thoughts)

    def think(self, text: str) -> None:
        """Reasoning; in a paragraph of its own after a `break_thought`."""
        if text:
            if self._breaks and (self.thoughts or self.told_thoughts):
                self.thoughts.append(_PARAGRAPH)
            self._breaks = False
            self.thoughts.append(text)

    def break_thought(self) -> None:
        self._breaks = True

    def count(self, chars: int) -> None:
        """Raises ModelFailed beyond what an answer may have."""
        self._chars += chars
        if self._chars > MAX_CHARS:
            raise endless()

    def take(self) -> list[ModelEvent]:
        """What a reader has not been told yet. Raises ModelFailed."""
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
        """The rest, once nothing can come any more."""
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
