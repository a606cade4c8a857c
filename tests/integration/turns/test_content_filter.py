"""What a provider's content filter refuses to let a model read: marked, told, and not in the way of what follows."""

from __future__ import annotations

from typing import Any

import pytest

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.errors import ErrorCode
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.context.window import FILTERED_RESULT
from shared.sessions.life.branches import BranchService
from shared.sessions.llm.conversation import ToolAnswered, UserSaid
from shared.sessions.llm.protocol import ModelRequest
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import MessageRole, MessageStatus, Regeneration, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from tests.integration.bench import BOTH_APIS, CALCULATE, Bench
from tests.integration.branches.branching import Conversation
from tests.integration.domain import OWNER, Stores, Uncached, plan, script, text_of, turn_planner

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ANN = Principal(OWNER, frozenset({Role.USER}))
REFUSED = {
    "status": 400,
    "body": {
        "error": {
            "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management"
            " policy. Please modify your prompt and retry.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
            },
        }
    },
}
"""Azure's words."""
INVALID = {"status": 400, "code": "invalid_prompt", "message": "Invalid prompt: limited access to this content."}
"""OpenAI's."""


async def _posted(
    bench: Bench, session_id: str | None = None, *, api: ModelApi = ModelApi.CHAT, **directives: Any
) -> PostedMessage:
    session_id = session_id or (await bench.stores.session()).id
    return await bench.stores.post(session_id, script(**directives), turn_plan=plan(model_api=api, tools=["calculate"]))


def _questions(request: ModelRequest) -> list[str]:
    return [said.text for said in request.conversation if isinstance(said, UserSaid)]


@pytest.mark.parametrize("api", BOTH_APIS)
@pytest.mark.parametrize("refusal", [REFUSED, INVALID], ids=["Azure", "OpenAI"])
async def test_a_message_that_is_refused_fails_its_turn_with_a_sentence_and_is_marked(
    bench: Bench, api: ModelApi, refusal: dict[str, Any]
) -> None:
    key = new_id()
    posted = await _posted(bench, api=api, key=key, fail=[refusal])

    ran = await bench.go_on(posted)

    assert (ran.outcome, ran.turn.status) == (StepOutcome.FAILED, TurnStatus.FAILED)
    assert ran.turn.error is not None
    assert ran.turn.error.code == ErrorCode.LLM_ERROR
    assert "content filter refused the message" in ran.turn.error.detail
    assert "Azure" not in ran.turn.error.detail
    assert (await bench.calls(key))["calls"] == 1
    question, answer = await bench.messages(posted.turn.session_id)
    assert (question.id, question.left_out, question.status) == (
        posted.message.id,
        "content_filter",
        MessageStatus.COMPLETED,
    )
    assert (answer.left_out, answer.content, answer.status) == (None, "", MessageStatus.FAILED)
    marked = [event for event in bench.sender.events if event["data"].get("left_out")]
    assert [(event["type"], event["message_id"], event["data"]) for event in marked] == [
        ("message.updated", question.id, {"id": question.id, "role": "user", "left_out": "content_filter"})
    ]
    assert ran.turn.usage.input_tokens == 0


async def test_later_messages_are_answered_and_not_sent_with_the_refused_one(bench: Bench, stores: Stores) -> None:
    first = await bench.say((await stores.session()).id, script(content="before"), tools=[])
    session_id = first.posted.turn.session_id
    # Once with what came before, and once alone.
    refused = await bench.go_on(await _posted(bench, session_id, key=new_id(), fail=[REFUSED, REFUSED]))
    later = await bench.go_on(await _posted(bench, session_id, content="later"))

    assert (refused.turn.status, later.turn.status) == (TurnStatus.FAILED, TurnStatus.COMPLETED)
    assert _questions(bench.model.requests[-1]) == [first.posted.message.content, later.posted.message.content]
    assert [message.left_out for message in await bench.messages(session_id, MessageRole.USER)] == [
        None,
        "content_filter",
        None,
    ]
    fork = await Conversation(stores, session_id).fork()
    assert [message.left_out for message in await bench.messages(fork.id, MessageRole.USER)] == [
        None,
        "content_filter",
        None,
    ]


async def test_a_conversation_that_is_refused_later_on_is_left_out_and_the_question_is_not(
    bench: Bench, stores: Stores
) -> None:
    first = await bench.say((await stores.session()).id, script(content="before"), tools=[])
    session_id = first.posted.turn.session_id

    ran = await bench.go_on(await _posted(bench, session_id, key=new_id(), fail=[REFUSED], content="alone"))

    assert (ran.turn.status, (await bench.answer(ran.posted)).content) == (TurnStatus.COMPLETED, "alone")
    assert _questions(bench.model.requests[-1]) == [ran.posted.message.content]
    asked = len(bench.model.requests)
    third = await bench.go_on(await _posted(bench, session_id, key=new_id(), content="and on"))
    assert _questions(bench.model.requests[-1]) == [ran.posted.message.content, third.posted.message.content]
    assert len(bench.model.requests) == asked + 1, "what was refused once is not sent again by each later turn"
    left_out = [message.left_out for message in await bench.messages(session_id, MessageRole.USER)]
    assert left_out == ["content_filter", None, None]


async def test_asking_for_another_answer_sends_the_refused_message_again(bench: Bench, stores: Stores) -> None:
    key = new_id()
    posted = await _posted(bench, key=key, fail=[REFUSED, REFUSED], content="at last")
    await bench.go_on(posted)
    planner = turn_planner(stores)
    branches = BranchService(stores.sessions, PostgresBranches(stores.pool), bench.publisher, planner, Uncached())

    outcomes = []
    for _ in range(2):
        again = await branches.regenerate(
            posted.turn.session_id, posted.message.id, Regeneration(), ANN, idempotency_key=None
        )
        outcomes.append((await bench.go_on(again.result)).turn.status)

    assert outcomes == [TurnStatus.FAILED, TurnStatus.COMPLETED]
    (question,) = await bench.messages(posted.turn.session_id, MessageRole.USER)
    assert question.left_out is None, "it has an answer now, so it is read from now on"
    assert [_questions(request) for request in bench.model.requests] == [[posted.message.content]] * 3
    assert (await bench.calls(key))["calls"] == 3


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_a_result_that_is_refused_is_left_out_and_the_model_answers_without_it_at_once(
    bench: Bench, api: ModelApi
) -> None:
    key = new_id()
    posted = await _posted(bench, api=api, key=key, fail=[{}, REFUSED], tool_calls=[[CALCULATE]], content="without it")
    await bench.run_calls(await bench.run(posted))

    ran = await bench.go_on(posted, 2)

    assert ran.turn.status is TurnStatus.COMPLETED
    assert (await bench.calls(key))["calls"] == 3
    question, called, result, answer = await bench.messages(posted.turn.session_id)
    assert [question.left_out, called.left_out, result.left_out, answer.left_out] == [
        None,
        None,
        "content_filter",
        None,
    ]
    assert result.content, "people still see it"
    assert answer.content == text_of(bench.sender.events) == "without it"
    attempts = [f["attempt"] for f in bench.frames if f["type"] == "message_start" and f["message_id"] == answer.id]
    assert attempts == [1, 2]
    told = [said.text for said in bench.model.requests[-1].conversation if isinstance(said, ToolAnswered)]
    assert told == [FILTERED_RESULT]
    marked = [event["data"] for event in bench.sender.events if event["data"].get("left_out")]
    assert marked == [{"id": result.id, "role": "tool", "left_out": "content_filter"}]
    later = await bench.go_on(await _posted(bench, posted.turn.session_id, api=api, content="later"))
    assert later.turn.status is TurnStatus.COMPLETED
    told = [said.text for said in bench.model.requests[-1].conversation if isinstance(said, ToolAnswered)]
    assert told == [FILTERED_RESULT]


async def test_a_step_that_was_killed_after_it_marked_a_result_goes_on_without_it(bench: Bench, stores: Stores) -> None:
    key = new_id()
    posted = await _posted(bench, key=key, fail=[{}, REFUSED], tool_calls=[[CALCULATE]], content="without it")
    await bench.run_calls(await bench.run(posted))
    begun = await stores.started(posted.turn.id, 2)
    assert await stores.steps.leave_out(posted.turn.id, 2, begun.attempt - 1) == [], "only the newest attempt marks"
    assert [role for _, role in await stores.steps.leave_out(posted.turn.id, 2, begun.attempt)] == [MessageRole.TOOL]

    await bench.run(posted, 2)

    told = [said.text for said in bench.model.requests[-1].conversation if isinstance(said, ToolAnswered)]
    assert told == [FILTERED_RESULT]


async def test_a_turn_that_is_refused_without_its_results_too_fails_and_the_session_goes_on(
    bench: Bench, stores: Stores
) -> None:
    key = new_id()
    posted = await _posted(bench, key=key, fail=[{}, REFUSED, REFUSED], tool_calls=[[CALCULATE]])

    ran = await bench.go_on(posted)

    assert ran.turn.status is TurnStatus.FAILED
    assert ran.turn.error is not None
    assert "content filter" in ran.turn.error.detail
    assert (await bench.calls(key))["calls"] == 3
    later = await bench.go_on(await _posted(bench, posted.turn.session_id, content="later"))
    assert later.turn.status is TurnStatus.COMPLETED
    assert _questions(bench.model.requests[-1]) == [later.posted.message.content]
    marked = [(message.role, message.left_out) for message in await bench.messages(posted.turn.session_id)]
    assert marked[:4] == [
        ("user", "content_filter"),
        ("assistant", None),
        ("tool", "content_filter"),
        ("assistant", None),
    ]
    told = [event["data"]["role"] for event in bench.sender.events if event["data"].get("left_out")]
    assert told == ["tool", "user"]


async def test_what_the_filter_refuses_in_the_middle_of_an_answer_marks_no_message(bench: Bench) -> None:
    """Then it is the answer that was refused: OpenAI's error inside a stream, after words."""
    error = {"error_after": 5, "code": "content_filter", "message": "filtered"}
    posted = await _posted(bench, key=new_id(), fail=[error], tokens=20)

    ran = await bench.go_on(posted)

    assert ran.turn.status is TurnStatus.FAILED
    assert [message.left_out for message in await bench.messages(posted.turn.session_id)] == [None, None]
    assert (await bench.answer(posted)).content
