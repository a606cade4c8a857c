"""What becomes of an answer while it comes: what it says, how it ended, and when it has failed."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import ErrorCode, ModelFailed, Transient
from shared.sessions.context.window import estimate_tokens
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.llm.protocol import ModelEnd, ModelEvent, ModelReasoning, ModelText
from shared.sessions.models import FinishReason, Usage
from shared.sessions.turns.answer import Answer

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CALL = ModelToolCall("c", "calculate", '{"expression": "1"}')


def _answer(*events: ModelEvent) -> Answer:
    answer = Answer()
    for event in events:
        answer.take(event)
    return answer


def _end(reason: FinishReason, *calls: ModelToolCall, usage: Usage | None = None) -> ModelEnd:
    return ModelEnd(reason, usage, list(calls))


def test_an_answer_is_what_was_said_and_what_was_thought_apart() -> None:
    usage = Usage(input_tokens=5, output_tokens=9, reasoning_tokens=4)

    answer = _answer(
        ModelReasoning("hm "),
        ModelText("for"),
        ModelReasoning("so"),
        ModelText("ty"),
        _end(FinishReason.STOP, usage=usage),
    )

    assert (answer.content, answer.reasoning) == ("forty", "hm so")
    assert (answer.finish_reason, answer.usage, answer.failure) == (FinishReason.STOP, usage, None)


def test_an_answer_that_has_not_begun_says_nothing_of_itself() -> None:
    answer = Answer()

    assert not answer.has_begun
    assert (answer.content, answer.reasoning, answer.finish_reason, answer.usage) == ("", None, None, Usage())
    assert _answer(ModelReasoning("hm")).has_begun
    assert _answer(ModelText("x")).has_begun
    assert _answer(_end(FinishReason.STOP)).has_begun


@pytest.mark.parametrize(
    ("reason", "kind", "code", "word"),
    [
        (FinishReason.STOP, Transient, ErrorCode.LLM_ERROR, "nothing"),
        (FinishReason.TOOL_CALLS, Transient, ErrorCode.LLM_ERROR, "nothing"),
        (FinishReason.REFUSAL, Transient, ErrorCode.LLM_ERROR, "nothing"),
        (FinishReason.LENGTH, ModelFailed, ErrorCode.TOKEN_LIMIT, "max_output_tokens"),
        (FinishReason.CONTENT_FILTER, ModelFailed, ErrorCode.LLM_ERROR, "content filter"),
    ],
)
@pytest.mark.parametrize(
    "said", [(), (ModelReasoning("hm"),), (ModelText(" \n"),)], ids=["nothing", "thought", "space"]
)
def test_what_ends_empty_without_a_call_has_failed_as_its_end_says(
    said: tuple[ModelEvent, ...], reason: FinishReason, kind: type[Exception], code: ErrorCode, word: str
) -> None:
    usage = Usage(input_tokens=3, output_tokens=7)

    answer = _answer(*said, _end(reason, usage=usage))

    assert type(answer.failure) is kind
    assert answer.failure is not None
    assert answer.failure.code is code
    assert word in answer.failure.safe_message
    assert answer.failure.retryable is (kind is Transient)
    assert answer.usage == usage, "it was paid for all the same"


@pytest.mark.parametrize("reason", list(FinishReason))
def test_what_says_something_or_calls_something_is_an_answer_however_it_ended(reason: FinishReason) -> None:
    assert _answer(ModelText("x"), _end(reason)).failure is None
    assert _answer(_end(reason, CALL)).failure is None


def test_its_tokens_are_what_a_model_reads_of_it_later() -> None:
    answer = _answer(ModelReasoning("a long thought"), ModelText("forty"), _end(FinishReason.TOOL_CALLS, CALL))

    assert answer.tokens == estimate_tokens("forty" + "calculate" + CALL.arguments)
    assert _answer(ModelText("forty")).tokens == estimate_tokens("forty")


def test_a_final_answer_that_fits_the_schema_is_kept_as_json() -> None:
    answer = _answer(ModelText('```json\n{"n": 1}'), ModelText("\n```"), _end(FinishReason.STOP))

    assert answer.check(SCHEMA) is None
    assert answer.output == {"n": 1}


@pytest.mark.parametrize(("text", "word"), [('{"n": "one"}', "n: "), ("forty", "not JSON"), ("{}", '"n"')])
def test_one_that_does_not_fit_says_what_is_wrong(text: str, word: str) -> None:
    answer = _answer(ModelText(text), _end(FinishReason.STOP))

    assert word in (answer.check(SCHEMA) or "")
    assert answer.output is None
    assert answer.failure is None, "whoever asked decides"


@pytest.mark.parametrize(
    "answer",
    [
        _answer(ModelText("no"), _end(FinishReason.REFUSAL)),
        _answer(ModelText('{"n": '), _end(FinishReason.LENGTH)),
        _answer(ModelText("x"), _end(FinishReason.CONTENT_FILTER)),
        _answer(ModelText("I look"), _end(FinishReason.TOOL_CALLS, CALL)),
        _answer(ModelText('{"n": ')),
        _answer(_end(FinishReason.STOP)),
    ],
    ids=["refused", "cut", "filtered", "calls", "broken off", "empty"],
)
def test_what_is_not_a_complete_final_answer_is_not_held_to_the_schema(answer: Answer) -> None:
    assert answer.check(SCHEMA) is None
    assert answer.output is None


def test_without_a_schema_nothing_is_checked() -> None:
    answer = _answer(ModelText("forty"), _end(FinishReason.STOP))

    assert answer.check(None) is None
    assert answer.output is None


def test_an_answer_that_is_given_up_says_why() -> None:
    answer = _answer(ModelText("x"), _end(FinishReason.STOP))

    answer.fail(ErrorCode.LLM_TIMEOUT, "too late")

    assert isinstance(answer.failure, ModelFailed)
    assert (answer.failure.code, answer.failure.safe_message) == (ErrorCode.LLM_TIMEOUT, "too late")
    assert answer.check(SCHEMA) is None
