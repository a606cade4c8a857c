"""The whole app with a model that nobody here wrote, over chat completions."""

from __future__ import annotations

from devtools.small_model import CONTEXT_TOKENS
from tests.e2e.support.client import Api
from tests.smallmodel.stack import RunningModel, answer_of, ended, long_message


async def test_an_answer_arrives_in_pieces_that_add_up_to_what_is_stored(api: Api) -> None:
    session = await api.session(max_output_tokens=200)
    turn_id = await api.say(session, "Tell me about the city of Paris in three sentences.")

    answer = await answer_of(api, session, turn_id)

    pieces = [
        envelope["data"]["frame"]["text"]
        for envelope in await api.events(session)
        if envelope["type"] == "stream.chunk" and envelope["data"]["frame"]["type"] == "content_delta"
    ]
    assert answer["content"].strip()
    assert len(pieces) > 1, "it was streamed"
    assert "".join(pieces) == answer["content"]


async def test_what_the_model_read_and_wrote_is_recorded(api: Api, small_model: RunningModel) -> None:
    session = await api.session(max_output_tokens=40)
    question = "What is the capital of France?"
    turn_id = await api.say(session, question)

    answer = await answer_of(api, session, turn_id)
    usage = (await api.turn(session, turn_id))["usage"]

    assert usage["input_tokens"] > small_model.count_tokens(question)
    # One more than the text has: the token that ends it.
    assert usage["output_tokens"] in {small_model.count_tokens(answer["content"]) + extra for extra in (0, 1)}


async def test_the_second_turn_finds_the_first_in_the_models_cache(api: Api) -> None:
    session = await api.session(max_output_tokens=20)
    await answer_of(api, session, await api.say(session, "What is the capital of Italy?"))
    turn_id = await api.say(session, "And of Spain?")
    await answer_of(api, session, turn_id)

    usage = (await api.turn(session, turn_id))["usage"]

    assert 0 < usage["cached_input_tokens"] < usage["input_tokens"]


async def test_an_answer_that_was_cut_says_so(api: Api) -> None:
    session = await api.session(max_output_tokens=8)
    turn_id = await api.say(session, "Tell me a long story about a fox.")

    answer = await answer_of(api, session, turn_id)
    turn = await api.turn(session, turn_id)

    assert (answer["finish_reason"], turn["finish_reason"]) == ("length", "length")
    assert turn["usage"]["output_tokens"] == 8


async def test_a_short_answer_says_that_it_is_complete(api: Api) -> None:
    session = await api.session(max_output_tokens=200)

    answer = await answer_of(api, session, await api.say(session, "What is the capital of France?"))

    assert answer["finish_reason"] == "stop"


async def test_an_answer_by_a_schema_is_stored_as_json(api: Api) -> None:
    place = {"city": {"type": "string"}, "country": {"type": "string"}}
    schema = {"type": "object", "properties": place, "required": ["city", "country"], "additionalProperties": False}
    session = await api.session(max_output_tokens=200, output_schema=schema)

    answer = await answer_of(api, session, await api.say(session, "What is the capital of France?"))

    assert set(answer["output"]) == {"city", "country"}


async def test_a_conversation_longer_than_the_window_goes_on(api: Api, small_model: RunningModel) -> None:
    session = await api.session(max_output_tokens=60)
    refused_before = small_model.refusals()

    for number in range(1, 11):
        answer = await answer_of(api, session, await api.say(session, long_message(number)))
        assert answer["content"].strip(), f"turn {number} has an answer"

    said = await api.messages(session)
    assert len([message for message in said if message["role"] == "user"]) == 10
    assert small_model.count_tokens("\n".join(message["content"] for message in said)) > 2 * CONTEXT_TOKENS
    # Nobody told the app the window: the server's refusal did, and once is enough.
    assert small_model.refusals() - refused_before <= 2


async def test_a_message_that_no_window_holds_fails_with_a_word_about_it(api: Api) -> None:
    session = await api.session(max_output_tokens=20)
    whole_library = "\n".join(long_message(number) for number in range(1, 8))

    turn = await ended(api, session, await api.say(session, whole_library))
    assert (turn["status"], turn["error"]["code"]) == ("failed", "TOKEN_LIMIT")

    answer = await answer_of(api, session, await api.say(session, "What is the capital of France?"))
    assert answer["content"].strip(), "the session goes on"
