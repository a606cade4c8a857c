"""Models that say what they were told to, and steps to ask them with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import EventTarget
from shared.sessions.limits.budgets import NOTHING_USED, TokensUsed
from shared.sessions.llm.conversation import AssistantSaid, Said, ToolAnswered, UserSaid
from shared.sessions.llm.protocol import ContextOverflow, ModelEnd, ModelEvent, ModelRequest, ModelText
from shared.sessions.llm.registry import Model, ModelRegistry
from shared.sessions.models import FinishReason, MessageStatus, SessionConfig, Usage
from shared.sessions.records.steps import ContextMessage, StepStart, Summary

END = ModelEnd(FinishReason.STOP, Usage(input_tokens=7, output_tokens=2))
PRICED = ModelRegistry({"m": Model(name="m", input_usd=1, cached_input_usd=0.1, output_usd=10)})


class Told:
    """`LLMServiceProtocol` that says what it was told to, and remembers what it was asked.

    answers: one for each request, the last one for all that follow.
    """

    def __init__(self, *answers: Sequence[ModelEvent | Exception]) -> None:
        self._answers = answers or ([],)
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        answer = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(request)
        for event in answer:
            if isinstance(event, Exception):
                raise event
            yield event


class Windowed:
    """A model that reads so many tokens (by our estimate times a ratio) and refuses more, in the server's words.

    says: which of its limit and the request's length it names. counts_answer: as vLLM does, it refuses what reads and
    may write more than there is.
    """

    def __init__(self, tokens: int, ratio: float = 1.0, *, says: str = "both", counts_answer: bool = False) -> None:
        self.tokens, self.ratio, self.says, self.counts_answer = tokens, ratio, says, counts_answer
        self.asked: list[ModelRequest] = []
        self.asked_tokens: list[int] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.asked.append(request)
        texts = [request.instructions]
        for said in request.conversation:
            texts += [said.text, *(said.before if isinstance(said, UserSaid) else ())]
        reads = int(sum(map(estimate_tokens, texts)) * self.ratio)
        self.asked_tokens.append(reads)
        written = (request.max_output_tokens or 0) if self.counts_answer else 0
        if reads + written > self.tokens:
            raise ContextOverflow(
                limit_tokens=self.tokens if self.says in {"both", "limit"} else None,
                read_tokens=reads if self.says == "both" and reads > self.tokens else None,
            )
        yield ModelText("fits")
        yield END


def start(
    *, step: int = 1, used: TokensUsed | None = None, session_budget: int | None = None, **config: Any
) -> StepStart:
    said = ContextMessage("user", "What is 6 * 7?", 9, 1, 0, MessageStatus.COMPLETED)
    return StepStart(
        turn_id="t",
        step=step,
        target=EventTarget("s", 0, 100),
        requested_by="uma",
        plan=plan_turn(DEFAULT_AGENT, SessionConfig(**config), model="m", approval_mode=None),
        message_id="a",
        message_created_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        context=[said],
        used=used or NOTHING_USED,
        max_session_tokens=session_budget,
    )


def long_start(messages: int, chars: int = 300, **config: Any) -> StepStart:
    """A session of so many turns, each a question and its answer."""
    context: list[ContextMessage] = []
    for turn in range(1, messages + 1):
        for role, step in (("user", 0), ("assistant", 1)):
            text = f"{role} {turn} ".ljust(chars, "x")
            context.append(ContextMessage(role, text, estimate_tokens(text), turn, step, MessageStatus.COMPLETED))
    return replace(start(**config), context=list(reversed(context[:-1])))


class Summaries:
    """`SummaryRepository` in two lists."""

    def __init__(self) -> None:
        self.saved: list[Summary] = []
        self.used: list[Usage] = []

    async def save_summary(self, turn_id: str, summary: Summary, *, now: datetime) -> None:
        self.saved.append(summary)

    async def add_usage(self, turn_id: str, usage: Usage, *, now: datetime) -> None:
        self.used.append(usage)


def check_valid(said: Sequence[Said]) -> None:
    """Each call is answered once, right after it; and nobody says nothing."""
    waiting: list[str] = []
    for one in said:
        if isinstance(one, ToolAnswered):
            assert one.call_id in waiting
            waiting.remove(one.call_id)
            continue
        assert waiting == [], "something stands between a call and its results"
        if isinstance(one, AssistantSaid):
            waiting = [call.id for call in one.calls]
            assert waiting or one.text
    assert waiting == []
