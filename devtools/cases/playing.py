"""What stands in for the model and for tools while a case is played, and what was seen of them.

Invariant: nothing is called. A request or a call that the recording has no answer for gets none, and is told by name.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from devtools.cases.case import Call, Case, Json, Turn
from devtools.cases.matching import Asked, Recorded, asked, asked_of, first_difference, recorded, recorded_request
from shared.errors import ErrorCode, ModelFailed, ToolFailed
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.llm.protocol import (
    LLMServiceProtocol,
    ModelEnd,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
)
from shared.sessions.models import FinishReason, Usage, WaitKind
from shared.sessions.tools.base import Tool, ToolArguments, ToolContext
from shared.sessions.tools.deferred import MAX_LATER_S, Deferred
from shared.sessions.tools.output import ToolOutput
from shared.sessions.tools.running.masking import Mask

NO_ANSWER = "The recording has no answer to this."
NO_RESULT = "The recording has no result of this call."
_BY_THE_APP = frozenset(
    {"INVALID_TOOL_ARGS", "TOOL_NOT_FOUND", "APPROVAL_REJECTED", "APPROVAL_REQUIRED", "APPROVAL_TIMEOUT"}
)
"""Codes of calls that ended before their tool ran."""


@dataclass
class Seen:
    """What became of one case's requests and calls."""

    case: Case
    requests: list[Asked] = field(default_factory=list)
    unanswered: list[tuple[int, str, str]] = field(default_factory=list)
    """(turn from 0, what was recorded, what is now) of requests without an answer."""
    without_result: list[str] = field(default_factory=list)
    """Names of calls that ran today and have no recorded result, with their arguments."""


@dataclass
class Played:
    """What became of a case. today: the same conversation as it went now, up to where it ended."""

    today: Case
    seen: Seen
    refused_votes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broke_off: str | None = None
    """Why the rest was not played."""


@dataclass
class ReplayedModel:
    """`LLMServiceProtocol` over the answers of a case, which are given in their order."""

    seen: Seen
    _answers: list[Recorded] = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        self._answers = recorded(self.seen.case)

    def begin_turn(self, turn: int) -> None:
        """Also where the turn before did not ask for all of its answers."""
        self._next = next((n for n, each in enumerate(self._answers) if each.turn >= turn), len(self._answers))
        self._turn = turn

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        now = asked(request.conversation)
        found = self._answers[self._next] if self._next < len(self._answers) else None
        if found is not None and found.turn != self._turn:
            found = None
        differs = ("no further answer", str(now[-1])) if found is None else first_difference(found.before, now)
        if found is None or differs is not None:
            self.seen.unanswered.append((self._turn, *(differs or ("", ""))))
            raise ModelFailed(ErrorCode.LLM_ERROR, NO_ANSWER)
        self._next += 1
        self.seen.requests.append(asked_of(request))
        turn, step = self.seen.case.turns[found.turn], found.answer
        if step.reasoning:
            yield ModelReasoning(step.reasoning)
        if step.text:
            yield ModelText(step.text)
        if step.error is not None:
            code, _, detail = step.error.partition(": ")
            raise ModelFailed(ErrorCode(code), detail)
        calls = [
            ModelToolCall(call.id, call.name, json.dumps(call.arguments, ensure_ascii=False)) for call in step.calls
        ]
        yield ModelEnd(FinishReason(step.finish_reason or "stop"), self._used(turn, found, request), calls)

    def _used(self, turn: Turn, found: Recorded, request: ModelRequest) -> Usage:
        """The step's part of what its turn used, and what today's instructions and tools add to it."""
        answered = [step for step in turn.steps if step.error is None]
        share, used = max(len(answered), 1), turn.ends.used
        is_last = found.answer is answered[-1] if answered else True

        def part(of: int) -> int:
            return of - of // share * (share - 1) if is_last else of // share

        now = asked_of(request)
        was = recorded_request(self.seen.case)
        grown = now.tokens - (was if now.tools is not None else Asked(was.instructions, None, {})).tokens
        return Usage(
            input_tokens=max(part(used.input) + grown, 0),
            output_tokens=part(used.output),
            cached_input_tokens=part(used.cached),
            reasoning_tokens=part(used.reasoning),
        )


@dataclass
class WatchedModel:
    """A real model: its requests are noted."""

    seen: Seen
    model: LLMServiceProtocol

    def begin_turn(self, turn: int) -> None:
        del turn

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.seen.requests.append(asked_of(request))
        return self.model.stream(request)


@dataclass
class ReplayedTools:
    """`ToolRunner` over the results of a case.

    call_of: the id that the model gave to the call, by the app's own. is_live: the model is a real one, so a call is
    known by its name and arguments.
    """

    seen: Seen
    call_of: Callable[[str], Awaitable[str]]
    is_live: bool = False
    _used: set[str] = field(default_factory=set)

    async def __call__(
        self, tool: Tool, arguments: ToolArguments, context: ToolContext, *, timeout_s: float, mask: Mask
    ) -> ToolOutput | Deferred:
        call = await self._find(tool, arguments, context)
        if call is None or not has_result(call):
            written = json.dumps(arguments.model_dump(mode="json", exclude_unset=True), ensure_ascii=False)
            self.seen.without_result.append(f"{tool.name} {written}")
            raise ToolFailed(NO_RESULT)
        result = call.result
        if result.at is not None and context.link.resumed is None:
            return Deferred(WaitKind.RESULT, timeout_s=MAX_LATER_S)
        if result.status == "failed":
            raise ToolFailed(result.error or "", code=ErrorCode(result.code or "TOOL_EXECUTION_FAILED"))
        return ToolOutput(result.content or "", result.data)

    async def _find(self, tool: Tool, arguments: ToolArguments, context: ToolContext) -> Call | None:
        calls = [call for turn in self.seen.case.turns for step in turn.steps for call in step.calls]
        if not self.is_live:
            wanted = await self.call_of(context.tool_call_id)
            return next((call for call in calls if call.id == wanted), None)
        given = arguments.model_dump(mode="json", exclude_unset=True)
        for call in calls:
            if call.id not in self._used and call.name == tool.name and _same(call, given):
                self._used.add(call.id)
                return call
        return None


def has_result(call: Call) -> bool:
    """Whether its tool ran when it was recorded."""
    return call.result.status in {"completed", "failed"} and call.result.code not in _BY_THE_APP


def _same(call: Call, given: Json) -> bool:
    return given == (call.arguments if call.ran_with is None else call.ran_with)
