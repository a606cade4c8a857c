"""An answer of a model while it comes, and what became of it.

Invariant: an answer that says nothing is not a complete one: what ends empty, without a call, has failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.context.window import estimate_tokens
from shared.sessions.llm.protocol import ModelEnd, ModelEvent, ModelReasoning, ModelText
from shared.sessions.models import FinishReason, JsonObject, MessageStatus, Usage
from shared.sessions.structured_output.checks import check_output


@dataclass(slots=True)
class Answer:
    """One attempt."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    end: ModelEnd | None = None
    """None: it was cut, or never began."""
    failure: AppError | None = None
    is_cancelled: bool = False
    usage: Usage = Usage()  # noqa: RUF009 - frozen
    output: Any | None = None
    """The answer as JSON, once `check` has found that it fits."""

    @property
    def content(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str | None:
        return "".join(self.thoughts) or None

    @property
    def has_begun(self) -> bool:
        return bool(self.texts or self.thoughts or self.end)

    @property
    def finish_reason(self) -> FinishReason | None:
        return None if self.end is None else self.end.finish_reason

    @property
    def tokens(self) -> int:
        """About what it is to a model that reads it."""
        calls = self.end.tool_calls if self.end is not None else ()
        return estimate_tokens(self.content + "".join(call.name + call.arguments for call in calls))

    def take(self, event: ModelEvent) -> None:
        """The next event of its stream."""
        if isinstance(event, ModelText):
            self.texts.append(event.text)
        elif isinstance(event, ModelReasoning):
            self.thoughts.append(event.text)
        else:
            self.end = event
            self.usage = event.usage or Usage()
            if not event.tool_calls and not self.content.strip():
                self.failure = _empty(event.finish_reason)

    def fail(self, code: ErrorCode, detail: str) -> None:
        self.failure = ModelFailed(code, detail)

    def check(self, schema: JsonObject | None) -> str | None:
        """What is wrong with a complete final answer; None: nothing, or it is none."""
        if schema is None or self.failure is not None or self.finish_reason is not FinishReason.STOP:
            return None
        self.output, error = check_output(schema, self.content)
        return error


def end_of(status: MessageStatus, reason: FinishReason | None, *, has_calls: bool) -> FinishReason | None:
    """How a stored answer ended; of one that was stored without a reason, what can be told of it. None: it failed."""
    if reason is None and status is MessageStatus.COMPLETED:
        return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
    if reason is None and status is MessageStatus.CANCELLED:
        return FinishReason.CANCELLED
    return reason


def _empty(reason: FinishReason) -> AppError:
    if reason is FinishReason.CONTENT_FILTER:
        return ModelFailed(
            ErrorCode.LLM_ERROR,
            "The model's content filter stopped the answer before it said anything. Say it in other words.",
        )
    if reason is FinishReason.LENGTH:
        return ModelFailed(
            ErrorCode.TOKEN_LIMIT,
            "The model used its whole output limit before it said anything. Raise max_output_tokens, or lower"
            " reasoning_effort.",
        )
    return Transient(ErrorCode.LLM_ERROR, "The model answered with nothing.")
