"""Answers to a schema over the real stores: sent as each API has it, checked, asked for again once, stored as JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from devhost.model.server import ModelOptions
from shared.errors import ErrorCode
from shared.principal import Principal
from shared.sessions.llm.conversation import AssistantSaid, UserSaid
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import FinishReason, MessageStatus, NewMessage, SessionConfig, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from shared.sessions.turns.patience import Spent
from tests.integration.bench import BOTH_APIS, CALCULATE, Bench, MakeBench
from tests.integration.branches.branching import Conversation
from tests.integration.domain import OWNER, envelopes, plan, script, text_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ANN = Principal(OWNER, frozenset())
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
BRNO = {"city": "Brno", "people": 400_000}
REFUSED_PARAMETER = {ModelApi.CHAT: "response_format", ModelApi.RESPONSES: "text.format"}


async def _posted(bench: Bench, api: ModelApi, content: str, **fields: Any) -> PostedMessage:
    values = {"model_api": api, "tools": ["calculate"], "output_schema": CITY} | fields
    return await bench.stores.post((await bench.stores.session()).id, content, turn_plan=plan(**values))


def _fits(output: Any) -> bool:
    return isinstance(output, dict) and set(output) == {"city", "people"} and isinstance(output["people"], int)


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_a_schema_is_sent_as_the_api_has_it_and_the_answer_is_stored_as_json(bench: Bench, api: ModelApi) -> None:
    """The demo's rules answer in JSON only to a request that asks for it in its own parameter."""
    posted = await _posted(bench, api, "Say hello.", tools=[])

    ran = await bench.go_on(posted)

    assert ran.turn.status is TurnStatus.COMPLETED
    answer = await bench.answer(posted)
    assert _fits(answer.output)
    assert answer.output == orjson.loads(answer.content)
    assert (await bench.messages(posted.turn.session_id))[-1].output == answer.output
    fork = await Conversation(bench.stores, posted.turn.session_id).fork()
    assert (await bench.messages(fork.id))[-1].output == answer.output
    assert len(bench.model.requests) == 1


async def test_a_schema_of_a_message_is_for_its_answer_alone_and_goes_before_the_sessions(bench: Bench) -> None:
    session = await bench.stores.session(config=SessionConfig(output_schema={"type": "object"}))
    outputs: list[Any] = []
    for schema in (CITY, None):
        posted = await bench.service.post_message(
            session.id, NewMessage(content="Say hello.", output_schema=schema), ANN, idempotency_key=None
        )
        await bench.go_on(posted.result)
        outputs.append((await bench.answer(posted.result)).output)

    assert [_fits(output) for output in outputs] == [True, False]
    assert isinstance(outputs[1], dict)


@pytest.mark.parametrize("api", BOTH_APIS)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("Brno has many people.", "not JSON"),
        ('{"city": "Brno"}', "people"),
        ('{"city": "Brno", "people": 0}', "people"),
        ("[]", "not a JSON object"),
    ],
    ids=["words", "a field is missing", "out of range", "no object"],
)
async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_error(
    bench: Bench, api: ModelApi, wrong: str, error: str
) -> None:
    posted = await _posted(bench, api, script(content=wrong))

    ran = await bench.go_on(posted)

    assert (ran.turn.status, ran.turn.steps) == (TurnStatus.COMPLETED, 1)
    answer = await bench.answer(posted)
    assert _fits(answer.output)
    assert answer.content == text_of(bench.sender.events) != wrong
    starts = [frame["attempt"] for frame in bench.frames if frame["type"] == "message_start"]
    assert starts == [1, 2]
    first, second = bench.model.requests
    *before, said, correction = second.conversation
    assert before == list(first.conversation)
    assert said == AssistantSaid(wrong)
    assert isinstance(correction, UserSaid)
    assert error in correction.text
    assert len(await bench.messages(posted.turn.session_id)) == 2, "the correction is nobody's message"
    # Deltas of each attempt are numbered from 0, as after a restart.
    indexes = [frame["index"] for frame in bench.frames if frame["type"] == "content_delta"]
    assert indexes.count(0) == 2


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_both_attempts_count_and_only_the_second_one_is_stored(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, script(tokens=100))

    ran = await bench.go_on(posted)

    (last,) = [frame["usage"] for frame in bench.frames if frame["type"] == "message_end"]
    assert ran.turn.usage.output_tokens == last["output_tokens"] + 100
    assert ran.turn.usage.input_tokens > last["input_tokens"]
    record = await bench.stores.sessions.get(posted.turn.session_id, OWNER)
    assert record.used_tokens == ran.turn.usage.input_tokens + ran.turn.usage.output_tokens


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_an_answer_that_does_not_fit_twice_fails_the_turn_and_both_count(
    benches: MakeBench, api: ModelApi
) -> None:
    """A server that takes no schema, in front of rules that know JSON by its parameter alone."""
    server = ModelOptions(scripted=True, first_s=0, token_s=0, refused_parameters=(REFUSED_PARAMETER[api],))
    bench = await benches(server=server)
    posted = await _posted(bench, api, script(tokens=100))

    ran = await bench.go_on(posted)

    assert (ran.outcome, ran.turn.status) == (StepOutcome.FAILED, TurnStatus.FAILED)
    assert ran.turn.error is not None
    assert ran.turn.error.code == ErrorCode.LLM_ERROR
    assert "does not fit the output_schema" in ran.turn.error.detail
    answer = await bench.answer(posted)
    assert (answer.status, answer.output, answer.finish_reason) == (MessageStatus.FAILED, None, FinishReason.STOP)
    assert answer.content == text_of(bench.sender.events)
    assert len(bench.model.requests) == 2
    (last,) = [frame["usage"] for frame in bench.frames if frame["type"] == "message_end"]
    assert ran.turn.usage.output_tokens == last["output_tokens"] + 100
    again = await bench.bridge.run_step(posted.turn.id, 1, Spent(2))
    assert (again.outcome, again.code, again.detail) == (
        StepOutcome.FAILED,
        ErrorCode.LLM_ERROR,
        ran.turn.error.detail,
    )
    assert len(bench.model.requests) == 2


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_a_server_that_refuses_the_parameter_is_asked_in_words_and_once(
    benches: MakeBench, api: ModelApi
) -> None:
    server = ModelOptions(scripted=True, first_s=0, token_s=0, refused_parameters=(REFUSED_PARAMETER[api],))
    bench = await benches(server=server)
    content = f"```json\n{orjson.dumps(BRNO).decode()}\n```"
    posted = await _posted(bench, api, script(content=content))

    ran = await bench.go_on(posted)

    assert (ran.turn.status, ran.turn.steps) == (TurnStatus.COMPLETED, 1)
    answer = await bench.answer(posted)
    assert (answer.output, answer.content) == (BRNO, content)
    assert [frame["attempt"] for frame in bench.frames if frame["type"] == "message_start"] == [1]


async def test_an_unknown_model_with_tools_is_asked_in_words_and_corrected_by_the_parameter(bench: Bench) -> None:
    posted = await _posted(bench, ModelApi.CHAT, "Say hello.")

    ran = await bench.go_on(posted)

    assert (ran.turn.status, ran.turn.steps) == (TurnStatus.COMPLETED, 1)
    assert _fits((await bench.answer(posted)).output)
    assert [bool(request.tools) for request in bench.model.requests] == [True, False]


async def test_the_words_hold_the_schema(benches: MakeBench) -> None:
    server = ModelOptions(scripted=True, first_s=0, token_s=0, refused_parameters=("response_format",))
    bench = await benches(server=server)
    posted = await _posted(bench, ModelApi.CHAT, script(echo=True))

    await bench.run(posted)

    first = next(frame["text"] for frame in bench.frames if frame["type"] == "content_delta")
    system = orjson.loads(first)[0]
    assert system["role"] in {"system", "developer"}
    assert orjson.loads(system["content"].rpartition("\n")[2]) == CITY


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_calls_and_answers_that_were_cut_are_not_held_to_the_schema(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(
        bench, api, script(tool_calls=[[CALCULATE]], preamble="hm ", content='{"city": "Br', finish_reason="length")
    )
    first = await bench.run(posted)

    assert first.outcome is StepOutcome.FINAL or first.calls
    if first.calls:
        await bench.run_calls(first)
        ran = await bench.go_on(posted, 2)
        assert (ran.turn.status, ran.turn.finish_reason) == (TurnStatus.COMPLETED, "length")
    assert (await bench.answer(posted)).output is None


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_a_refusal_is_an_answer_and_not_held_to_the_schema(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, script(refusal="I will not."))

    ran = await bench.go_on(posted)

    assert (ran.turn.status, ran.turn.finish_reason) == (TurnStatus.COMPLETED, FinishReason.REFUSAL)
    answer = await bench.answer(posted)
    assert (answer.content, answer.output) == ("I will not.", None)


async def test_a_step_that_was_killed_while_it_was_corrected_begins_anew(bench: Bench) -> None:
    posted = await _posted(bench, ModelApi.CHAT, script(content="no JSON"))
    for _ in range(2):  # the first attempt, and the one that was to correct it
        await bench.stores.started(posted.turn.id)

    ran = await bench.go_on(posted)

    assert ran.turn.status is TurnStatus.COMPLETED
    assert [frame["attempt"] for frame in bench.frames if frame["type"] == "message_start"] == [3, 4]
    again = await bench.bridge.run_step(posted.turn.id, 1, Spent(2))
    assert text_of(envelopes(again.messages)) == (await bench.answer(posted)).content
