from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from shared.errors import ToolRefused
from shared.sessions.tools.base import ToolContext, validate_arguments
from shared.sessions.tools.builtin.search_history import search_history
from shared.sessions.tools.registry import InvalidToolArguments
from shared.sessions.tools.services import FoundText, HistoryAnswer, HistoryQuestion, ToolServices


class RecordingHistory:
    """A `HistorySearcher` that remembers what it was asked."""

    def __init__(self, *found: FoundText) -> None:
        self.found = list(found)
        self.questions: list[HistoryQuestion] = []

    async def find(self, question: HistoryQuestion) -> HistoryAnswer:
        self.questions.append(question)
        return HistoryAnswer(self.found, only_there=True)


async def test_it_asks_as_the_turns_user_and_quotes_what_it_finds(call: ToolContext) -> None:
    at = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    history = RecordingHistory(
        FoundText("s1", "Plans", "m1", "user", at, "launch it"),
        FoundText("s2", None, "m2", "assistant", at, "launched"),
    )
    call = dataclasses.replace(call, services=ToolServices(history=history))
    arguments = {"query": "launch*", "only_this_session": True, "role": "user", "since": "2026-01-01T00:00:00Z"}

    output = await search_history.run(validate_arguments(search_history, arguments), call)

    assert output.content == (
        "1. [2026-03-04 05:06 UTC, user in 'Plans'] launch it\n2. [2026-03-04 05:06 UTC, assistant] launched"
    )
    (asked,) = history.questions
    assert (asked.user_id, asked.asked_in, asked.not_turn_id) == ("alice", "session-1", "turn-1")
    assert asked.only_there
    assert (asked.query, asked.role, asked.since, asked.limit) == (
        "launch*",
        "user",
        datetime(2026, 1, 1, tzinfo=UTC),
        8,
    )


async def test_it_says_when_others_listening_kept_it_from_searching_elsewhere(call: ToolContext) -> None:
    call = dataclasses.replace(call, services=ToolServices(history=RecordingHistory()))
    output = await search_history.run(validate_arguments(search_history, {"query": "launch"}), call)
    assert output.content == (
        "Nothing was found.\nOnly this conversation was searched, because other people take part in it."
    )


async def test_without_its_service_it_refuses(call: ToolContext) -> None:
    with pytest.raises(ToolRefused):
        await search_history.run(validate_arguments(search_history, {"query": "x"}), call)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"query": ""}, {"query": "x" * 501}, {"query": "x", "limit": 21}, {"query": "x", "user_id": "bob"}],
)
def test_arguments_are_bounded_and_name_no_other_user(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidToolArguments):
        validate_arguments(search_history, arguments)
