"""What a call used: by its server's word where that can be true, else estimated."""

from __future__ import annotations

import pytest

from shared.adapters.models.usage import chat_usage, responses_usage
from shared.sessions.model_requests.used import used
from shared.sessions.models import Usage

ASKED, WRITTEN = 1_000, 300
ESTIMATED = Usage(input_tokens=1_000, output_tokens=100)


def _used(said: Usage | None, *, written: int = WRITTEN, most: int | None = 500) -> Usage:
    return used(said, model="m", asked=ASKED, written=written, most=most)


def test_what_can_be_is_believed() -> None:
    said = Usage(input_tokens=1_234, output_tokens=90, cached_input_tokens=1_000, reasoning_tokens=40)
    assert _used(said) is said


def test_a_server_that_says_nothing_is_estimated() -> None:
    assert _used(None) == ESTIMATED


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        (Usage(input_tokens=0, output_tokens=90), Usage(input_tokens=1_000, output_tokens=90)),
        (Usage(input_tokens=10**9, output_tokens=90), Usage(input_tokens=1_000, output_tokens=90)),
        (Usage(input_tokens=900, output_tokens=0), Usage(input_tokens=900, output_tokens=100)),
        (Usage(input_tokens=900, output_tokens=10**9), Usage(input_tokens=900, output_tokens=100)),
        (Usage(input_tokens=10**9, output_tokens=10**9), ESTIMATED),
        (
            Usage(input_tokens=10**9, output_tokens=90, cached_input_tokens=10**9, reasoning_tokens=30),
            Usage(input_tokens=1_000, output_tokens=90, cached_input_tokens=1_000, reasoning_tokens=30),
        ),
    ],
)
def test_what_cannot_be_is_estimated(said: Usage, counted: Usage) -> None:
    assert _used(said) == counted


def test_an_answer_without_a_word_may_have_no_tokens() -> None:
    said = Usage(input_tokens=900, output_tokens=0)
    assert _used(said, written=0) is said


def test_reasoning_beyond_the_answers_limit_is_believed() -> None:
    said = Usage(input_tokens=900, output_tokens=60_000, reasoning_tokens=59_000)
    assert _used(said, most=500) is said


WRONG = [-7, -1, "12", None, True, [], {}, float("nan"), float("-inf"), ""]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_is_no_number_is_none_used(wrong: object) -> None:
    details = {"cached_tokens": wrong, "reasoning_tokens": wrong}
    chat = {"prompt_tokens": wrong, "completion_tokens": 5, "total_tokens": wrong}
    assert chat_usage(chat | {"prompt_tokens_details": details}) == Usage(output_tokens=5)
    responses = {"input_tokens": 7, "output_tokens": wrong, "input_tokens_details": details}
    assert responses_usage(responses) == Usage(input_tokens=7)
    assert chat_usage({"prompt_tokens": wrong, "completion_tokens": wrong, "total_tokens": wrong}) is None
    assert responses_usage({"input_tokens": wrong, "output_tokens": wrong}) is None
    assert chat_usage(wrong) is None
    assert responses_usage(wrong) is None


@pytest.mark.parametrize("huge", [10**30, 1e300, float("inf")])
def test_a_number_that_no_call_has_is_stored_by_nobody(huge: float) -> None:
    for said in (
        chat_usage({"prompt_tokens": huge, "completion_tokens": huge, "total_tokens": huge}),
        chat_usage({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": huge}),
        responses_usage({"input_tokens": huge, "output_tokens": huge}),
    ):
        assert said is not None
        assert _used(said).output_tokens == 100


def test_a_part_is_never_more_than_its_whole() -> None:
    parts = {"prompt_tokens_details": {"cached_tokens": 50}, "completion_tokens_details": {"reasoning_tokens": 90}}
    assert chat_usage({"prompt_tokens": 10, "completion_tokens": 5} | parts) == Usage(
        input_tokens=10, output_tokens=5, cached_input_tokens=10, reasoning_tokens=5
    )
