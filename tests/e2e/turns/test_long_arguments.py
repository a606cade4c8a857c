"""A model that writes megabytes of arguments is told that they are too long, and its turn goes on."""

from __future__ import annotations

from uuid import uuid4

import pytest

from shared.sessions.llm.conversation import MAX_ARGUMENT_CHARS
from tests.e2e.support.client import Api, call, model_calls, script

LARGEST_EVENT_BYTES = 10_000


@pytest.mark.parametrize("chars", [MAX_ARGUMENT_CHARS, 3_000_000, 10_000_000])
@pytest.mark.parametrize("model_api", ["chat", "responses"])
async def test_arguments_that_are_too_long_are_refused_to_the_model(
    api: Api, model_url: str, model_api: str, chars: int
) -> None:
    session_id = await api.session_with(model_api=model_api)
    key = str(uuid4())
    calls = [[call("calculate", expression="6 * 7"), call("calculate", expression="1 + 1") | {"fill": {"note": chars}}]]

    turn = await api.until(session_id, await api.say(session_id, script(key=key, tool_calls=calls, content="shorter")))

    assert (turn["status"], turn["error"]) == ("completed", None)
    whole, cut = turn["tool_calls"]
    assert (whole["status"], whole["arguments"]) == ("completed", {"expression": "6 * 7"})
    assert (cut["status"], cut["arguments"], cut["result"]["code"]) == ("failed", {}, "INVALID_TOOL_ARGS")
    assert f"longer than {MAX_ARGUMENT_CHARS} characters" in cut["result"]["error"]
    # The model read the same, and answered; it was not asked for the call again.
    told = [message["content"] for message in await api.messages(session_id, turn["id"], "tool")]
    assert any(f"longer than {MAX_ARGUMENT_CHARS} characters" in content for content in told)
    assert list((await api.answers(session_id, turn["id"])).values())[-1] == "shorter"
    assert model_calls(model_url, key)["calls"] == 2
    assert turn["usage"]["output_tokens"] > 0
    # Nothing of them is in what clients read.
    assert max(len(str(event)) for event in await api.events(session_id)) < LARGEST_EVENT_BYTES
