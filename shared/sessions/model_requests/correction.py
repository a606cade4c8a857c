"""The correction of an answer that does not fit its output schema."""

from __future__ import annotations

from dataclasses import dataclass

from shared.sessions.llm.conversation import AssistantSaid, UserSaid
from shared.sessions.models import JsonObject
from shared.sessions.structured_output.checks import asked_in_words


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that does not fit, and the error."""

    answer: str
    error: str

    def said(self, schema: JsonObject | None) -> list[AssistantSaid | UserSaid]:
        """The messages that follow the conversation: the answer, and the request to correct it."""
        words = f"That answer cannot be used. {self.error} Answer again, with the whole JSON object and nothing else."
        if schema is not None:
            # Some servers take the parameter and do not act on it (llama.cpp, over the responses API).
            words = f"{words}\n\n{asked_in_words(schema)}"
        return [AssistantSaid(self.answer), UserSaid(words)]
