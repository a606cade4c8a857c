"""A request to the model, the same for both APIs: messages, tools and options of the answer.

Invariant: one assistant message is one answer of the model with all its calls; a tool message is the
result of one call. Messages are oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from devhost.model.errors import Json

type JsonForm = Mapping[str, Json]
"""The JSON schema that an answer has to satisfy; `{}` is any object."""

_CHARS_PER_TOKEN = 4  # the usual rule of thumb; usage is an estimate and is only compared with itself


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as sent on the wire: `arguments` is JSON text, not always valid."""

    id: str
    name: str
    arguments: str
    item_id: str = ""
    """The item's id in the Responses API; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    text: str
    attachments: int = 0
    """Number of parts that are not text: images, audio, files."""
    words: str = ""
    """The last text part. Of several parts, the user's own text comes last, after attached texts."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    thoughts: str | None = None
    """The reasoning of this answer, if the client sent it back; else None."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    name: str
    description: str
    parameters: Mapping[str, Json]
    """JSON schema of an object."""

    @property
    def properties(self) -> Mapping[str, Json]:
        found = self.parameters.get("properties")
        return found if isinstance(found, Mapping) else {}

    @property
    def required(self) -> frozenset[str]:
        names = self.parameters.get("required")
        return frozenset(n for n in names if isinstance(n, str)) if isinstance(names, list) else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    api: Literal["chat", "responses"]
    model: str
    messages: tuple[Message, ...]
    """Never empty."""
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: str = "auto"
    """`none`, `auto`, `required`, or the name of the one tool to call."""
    parallel_tool_calls: bool = True
    stream: bool = False
    max_tokens: int | None = None
    """Token limit of the answer, reasoning included."""
    effort: str | None = None
    """Reasoning effort; None when the request names none."""
    form: JsonForm | None = None
    """None: plain text."""
    raw: Mapping[str, Json] = field(default_factory=dict, repr=False)

    @property
    def last_user_index(self) -> int:
        """Index of the newest user message, or -1."""
        return next((i for i in reversed(range(len(self.messages))) if self.messages[i].role == "user"), -1)

    @property
    def turn(self) -> tuple[Message, ...]:
        """The messages after the newest user message."""
        return self.messages[self.last_user_index + 1 :]

    @property
    def step(self) -> int:
        """How many times the model has answered since the newest user message."""
        return sum(message.role == "assistant" for message in self.turn)


def count_prompt_tokens(request: ModelRequest) -> int:
    """An estimate: a quarter of the characters, and a few tokens for each message and tool."""
    chars = 0
    for message in request.messages:
        chars += len(message.text) + 16 + 400 * message.attachments + len(message.thoughts or "")
        for call in message.tool_calls:
            chars += len(call.name) + len(call.arguments)
    for tool in request.tools:
        chars += len(tool.name) + len(tool.description) + 40 * len(tool.properties)
    return chars // _CHARS_PER_TOKEN + 3
