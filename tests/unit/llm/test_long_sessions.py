"""A session of two hundred turns, through the executor with compaction: what its model still knows at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from shared.sessions.approvals.containment import sources_read
from shared.sessions.context.compaction import INSTRUCTIONS, Compactor
from shared.sessions.context.window import SUMMARY_HEAD, estimate_tokens
from shared.sessions.executor import AgentExecutor
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import ContextOverflow, ModelEnd, ModelEvent, ModelRequest, ModelText
from shared.sessions.llm.registry import ModelRegistry
from shared.sessions.llm.windows import Windows
from shared.sessions.models import FinishReason, MessageStatus, Usage
from shared.sessions.records.steps import SUMMARY_ROLE, ContextMessage, StepStart, Summary
from tests.unit.turns.asking import check_valid, start

TURNS = 200
FACT = "FACT: the vault's code is 7431."
ELSE = "FACT: Ann's birthday is in May."


def _read(request: ModelRequest) -> str:
    texts = [request.instructions]
    for said in request.conversation:
        texts += [*(said.before if isinstance(said, UserSaid) else ()), said.text]
    return "\n".join(texts)


@dataclass
class Remembering:
    """A model that summarises well: facts stay, the rest goes. It refuses what its window does not hold."""

    window: int
    asked: list[ModelRequest] = field(default_factory=list)
    summarised: list[ModelRequest] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        read = _read(request)
        if estimate_tokens(read) > self.window * 1.05:
            raise ContextOverflow(limit_tokens=self.window, read_tokens=estimate_tokens(read))
        if request.instructions == INSTRUCTIONS:
            self.summarised.append(request)
            facts = [fact for fact in (FACT, ELSE) if fact in read]
            yield ModelText("\n".join([*facts, "They talked."]))
        else:
            check_valid(request.conversation)
            self.asked.append(request)
            yield ModelText("Well. " + "a" * 180)
        yield ModelEnd(FinishReason.STOP, Usage(input_tokens=10, output_tokens=10))


@dataclass
class Session:
    """What a session's store does: its messages, and the newest summary in the place of all before it."""

    messages: list[ContextMessage] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    usage: int = 0

    async def save_summary(self, turn_id: str, summary: Summary, *, now: datetime) -> None:
        self.summaries.append(summary)

    async def add_usage(self, turn_id: str, usage: Usage, *, now: datetime) -> None:
        self.usage += 1

    def add(self, role: str, turn: int, step: int, text: str, **fields: object) -> None:
        message = ContextMessage(role, text, estimate_tokens(text), turn, step, MessageStatus.COMPLETED)
        self.messages.append(message._replace(**fields))  # type: ignore[arg-type]

    def context(self) -> list[ContextMessage]:
        if not self.summaries:
            return list(reversed(self.messages))
        last = self.summaries[-1]
        newer = [message for message in reversed(self.messages) if message.turn_number > last.turn_number]
        done = MessageStatus.COMPLETED
        told = ContextMessage(SUMMARY_ROLE, last.content, last.tokens, last.turn_number, 2**31 - 1, done)
        return [*newer, told._replace(sources=sorted(last.sources))]


async def _talk(
    model: Remembering, session: Session, *, window: int, compact_at: float | None, windows: Windows | None = None
) -> None:
    executor = AgentExecutor(model, windows=windows, compactor=Compactor(model, session, ModelRegistry()))
    begun = start(max_context_tokens=window)
    plan = begun.plan.model_copy(update={"compact_at": compact_at})

    async def step(turn: int, number: int) -> None:
        now: StepStart = replace(begun, plan=plan, turn_id=f"turn-{turn}", step=number, context=session.context())
        answer = await executor.execute(now, [])
        calls = [{"id": f"c{turn}", "name": "fetch_url", "arguments": {"url": "http://x.test/"}}]
        is_call = turn % 5 == 0 and number == 1
        session.add("assistant", turn, number, answer.content, calls=calls if is_call else None)
        if is_call:
            text = "The page says " + "p" * 200 + (f" {ELSE}" if turn == 10 else "")
            session.add("tool", turn, number, text, tool_call_id=f"c{turn}")
            await step(turn, 2)

    for turn in range(1, TURNS + 1):
        told = FACT if turn == 2 else f"Question {turn}."
        session.add("user", turn, 0, f"{told} " + "q" * 150)
        await step(turn, 1)


@pytest.mark.parametrize("compact_at", [0.3, 0.8])
@pytest.mark.parametrize("window", [1_000, 4_096, 100_000])
async def test_what_was_said_in_the_second_turn_is_read_in_the_two_hundredth(window: int, compact_at: float) -> None:
    model, session = Remembering(window), Session()

    await _talk(model, session, window=window, compact_at=compact_at)

    last = model.asked[-1]
    assert FACT in _read(last)
    assert ELSE in _read(last), "what a tool said as well"
    assert f"Question {TURNS}." in _read(last)
    assert estimate_tokens(_read(last)) <= window
    # 200 turns of 150 tokens: only the largest window holds them, and at 0.3 of it not even that.
    tokens = sum(message.tokens for message in session.messages)
    assert bool(model.summarised) is (tokens > compact_at * window)
    assert session.usage == len(model.summarised)
    assert (SUMMARY_HEAD in _read(last)) is bool(session.summaries)
    if session.summaries:
        assert "fetch_url" in session.summaries[-1].sources
    assert sources_read(session.context()) == {"fetch_url"}


@pytest.mark.parametrize("window", [1_000, 4_096])
@pytest.mark.parametrize("compact_at", [0.3, 0.8])
async def test_the_turn_before_stays_word_for_word(window: int, compact_at: float) -> None:
    model, session = Remembering(window), Session()

    await _talk(model, session, window=window, compact_at=compact_at)

    share = min(0.4, compact_at / 2)
    turn = sum(message.tokens for message in session.messages if message.turn_number == TURNS - 1)
    fits = turn < share * (window - 200)
    assert (f"Question {TURNS - 1}." in _read(model.asked[-1])) or not fits


async def test_summaries_are_made_now_and_then_and_not_in_every_turn() -> None:
    model, session = Remembering(4_096), Session()

    await _talk(model, session, window=4_096, compact_at=0.8)

    # From 0.4 of the window to 0.8 of it there are some ten turns of 150 tokens.
    assert TURNS / 20 <= len(model.summarised) <= TURNS / 6
    places = [summary.turn_number for summary in session.summaries]
    assert places == sorted(set(places)), "each stands for more than the one before"


@pytest.mark.parametrize(("window", "is_read"), [(1_000, False), (4_096, False), (100_000, True)])
async def test_without_compaction_what_does_not_fit_is_left_out(window: int, is_read: bool) -> None:
    model, session = Remembering(window), Session()

    await _talk(model, session, window=window, compact_at=None)

    assert model.summarised == []
    assert (FACT in _read(model.asked[-1])) is is_read


async def test_a_window_that_nobody_wrote_down_is_learned_and_the_fact_survives_that_too() -> None:
    model, session, windows = Remembering(4_096), Session(), Windows()

    await _talk(model, session, window=100_000, compact_at=0.8, windows=windows)

    window = windows.of("m")
    assert window is not None
    assert window.limit_tokens == 4_096
    assert model.summarised
    assert FACT in _read(model.asked[-1])


async def test_an_agent_that_stops_to_compact_still_reads_the_summary_there_is() -> None:
    model, session = Remembering(4_096), Session()
    await _talk(model, session, window=4_096, compact_at=0.8)
    session.messages = [message for message in session.messages if message.turn_number > TURNS - 3]
    executor = AgentExecutor(model)

    for window in (4_096, 1_000):
        begun = start(max_context_tokens=window)
        await executor.execute(replace(begun, context=session.context()), [])
        assert FACT in _read(model.asked[-1])
