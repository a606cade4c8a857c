"""One trace per turn, from the request to the last tool, as a collector gets it; and what the log says meanwhile."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.support.client import Api, call, eventually, open_api, post_call, script
from tests.e2e.support.otlp import Collector, Span, running_collector
from tests.e2e.support.processes import LINK_SECRET, AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

CALLER = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink, collector: Collector
) -> Iterator[AppHost]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=k%3D1",
            "OTEL_SERVICE_NAME": "parley-test",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with running_host(tmp_path_factory.mktemp("traced"), environment) as host:
            yield host


@pytest.fixture
async def api(traced: AppHost) -> AsyncIterator[Api]:
    client = await open_api(traced)
    yield client
    await client.aclose()


async def whole_turn(collector: Collector, turn_id: str) -> list[Span]:
    """The trace of a turn once its own span and that of the activity that closed it are there."""

    async def look() -> list[Span] | None:
        spans = collector.of(parley__turn__id=turn_id)
        turn_ended = max((span.ended_ns for span in spans if span.name == "invoke_agent"), default=None)
        closing = {"call_model", "finish_turn"}
        if turn_ended is None or not any(span.name in closing and span.ended_ns >= turn_ended for span in spans):
            return None
        return collector.trace(spans[0].trace_id)

    return await eventually(look, "the whole trace")


def tree(spans: list[Span]) -> list[tuple[str, str]]:
    """(name, name of its parent) of each; the parent is said to be `caller` when it is not in the trace."""
    names = {span.span_id: span.name for span in spans}
    return [(span.name, names.get(span.parent_id, "caller" if span.parent_id else "")) for span in spans]


async def say(api: Api, session_id: str, content: str, **headers: str) -> str:
    posted = await api.post(f"/api/v1/sessions/{session_id}/messages", {"content": content}, headers=headers)
    assert posted.status_code == 202, posted.text
    return str(posted.json()["turn"]["id"])


async def test_a_turn_with_a_tool_call_is_one_trace(api: Api, collector: Collector) -> None:
    session_id = await api.session()
    steps = [[call("calculate", expression="20 + 22")]]
    content = script(tool_calls=steps, content="a secret answer")
    turn_id = await say(api, session_id, content, **{"x-correlation-id": "corr-1"})
    turn = await api.until(session_id, turn_id)
    spans = await whole_turn(collector, turn_id)
    route = "POST /api/v1/sessions/{session_id}/messages"
    assert sorted(tree(spans)) == sorted(
        [
            (route, ""),
            ("invoke_agent", route),
            ("call_model", "invoke_agent"),
            ("chat scripted", "call_model"),
            ("execute_tool", "invoke_agent"),
            ("execute_tool calculate", "execute_tool"),
            ("call_model", "invoke_agent"),
            ("chat scripted", "call_model"),
        ]
    )
    assert {span.kind for span in spans if span.name.startswith("chat")} == {"CLIENT"}
    root, agent = (next(span for span in spans if span.name == name) for name in (route, "invoke_agent"))
    assert (root.kind, root.attributes["http.response.status_code"]) == ("SERVER", 202)
    assert {span.attributes["parley.correlation_id"] for span in (root, agent)} == {"corr-1"}
    assert agent.began_ns <= min(span.began_ns for span in spans if span.name == "chat scripted")
    assert agent.ended_ns >= max(span.ended_ns for span in spans if span.name == "chat scripted")
    assert agent.attributes["gen_ai.conversation.id"] == session_id
    assert (agent.attributes["gen_ai.agent.id"], agent.attributes["gen_ai.agent.version"]) == ("assistant", "1")
    used = {name: agent.attributes[f"gen_ai.usage.{name}"] for name in ("input_tokens", "output_tokens")}
    assert used == {name: turn["usage"][name] for name in used}
    first, second = (span.attributes for span in spans if span.name == "chat scripted")
    assert (first["gen_ai.operation.name"], first["gen_ai.request.model"]) == ("chat", "scripted")
    assert (first["gen_ai.provider.name"], first["server.address"]) == ("openai", "127.0.0.1")
    assert first["gen_ai.usage.input_tokens"] + second["gen_ai.usage.input_tokens"] == used["input_tokens"]
    assert [span["gen_ai.response.finish_reasons"] for span in (first, second)] == [["tool_calls"], ["stop"]]
    for span in (first, second):
        assert span["gen_ai.response.id"].startswith("chatcmpl-")
        assert span["gen_ai.response.model"] == "offline-demo"
        assert span["gen_ai.response.time_to_first_chunk"] > 0
        assert span["gen_ai.usage.cache_read.input_tokens"] == span["gen_ai.usage.reasoning.output_tokens"] == 0
    (tool,) = (span.attributes for span in spans if span.name == "execute_tool calculate")
    assert (tool["gen_ai.tool.name"], tool["gen_ai.operation.name"]) == ("calculate", "execute_tool")
    assert tool["gen_ai.tool.call.id"] == turn["tool_calls"][0]["id"]
    assert {span.resource["service.name"] for span in spans} == {"parley-test"}
    assert not any(span.failed for span in spans)


async def test_the_export_carries_its_headers_and_no_content(api: Api, collector: Collector) -> None:
    """Neither what was said, nor arguments, nor results, nor the text of an error."""
    session_id = await api.session()
    steps = [[call("calculate", expression="31337 * 2"), call("calculate", expression="not_a_number_31337")]]
    turn_id = await say(api, session_id, script(tool_calls=steps, content="the answer is heliotrope"))
    await api.until(session_id, turn_id)
    await whole_turn(collector, turn_id)
    assert {(path, headers["x-collector-key"]) for path, headers, _ in collector.requests} == {("/v1/traces", "k=1")}
    sent = b"".join(body for _, _, body in collector.requests)
    assert turn_id.encode() in sent
    for content in (b"heliotrope", b"31337", b"62674", b"not_a_number", b"#script"):
        assert content not in sent
    assert not any(span.events or span.status_message for span in collector.spans)


async def test_a_caller_with_a_trace_of_its_own_finds_the_turn_in_it(api: Api, collector: Collector) -> None:
    session_id = await api.session()
    turn_id = await say(api, session_id, script(content="hi"), traceparent=f"00-{CALLER}-b7ad6b7169203331-01")
    await api.until(session_id, turn_id)
    spans = await whole_turn(collector, turn_id)
    assert {span.trace_id for span in spans} == {CALLER}
    assert spans[0].parent_id == "b7ad6b7169203331"
    assert len([span for span in spans if span.name == "chat scripted"]) == 1


async def test_a_caller_that_does_not_sample_is_followed(api: Api, collector: Collector) -> None:
    session_id = await api.session()
    unsampled = CALLER[::-1]
    turn_id = await say(api, session_id, script(content="hi"), traceparent=f"00-{unsampled}-b7ad6b7169203331-00")
    await api.until(session_id, turn_id)
    # The next turn's trace is there, so what came before it would be too.
    later = await say(api, session_id, script(content="hi"), traceparent="00-malformed")
    await api.until(session_id, later)
    spans = await whole_turn(collector, later)
    assert spans[0].parent_id == ""
    assert collector.trace(unsampled) == []


async def test_an_approval_is_in_the_trace_and_a_wait_holds_no_span_open(
    api: Api, collector: Collector, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await say(api, session_id, script(tool_calls=[[post_call(sink.url("/traced"))]]))
    approval = await api.approval(session_id)
    await api.decide(approval["id"], "approve")
    await api.until(session_id, turn_id)
    spans = await whole_turn(collector, turn_id)
    assert ("request_approval", "invoke_agent") in tree(spans)
    assert ("execute_tool http_request", "execute_tool") in tree(spans)


async def test_what_fails_says_with_which_code_and_the_log_says_for_which_request(
    api: Api, collector: Collector, traced: AppHost
) -> None:
    session_id = await api.session()
    turn_id = await say(api, session_id, script(fail={"status": 400}), **{"x-correlation-id": "corr-of-failure"})
    assert (await api.until(session_id, turn_id))["status"] == "failed"
    spans = await whole_turn(collector, turn_id)
    failed = {span.name: span.attributes["error.type"] for span in spans if span.failed}
    assert failed == {"chat scripted": "LLM_ERROR", "invoke_agent": "LLM_ERROR"}
    assert traced.logs(f"model step {turn_id}/1 failed")
    (line,) = [line for line in traced.log().splitlines() if f"model step {turn_id}/1 failed" in line]
    assert line.endswith("[correlation id corr-of-failure]")


async def test_after_a_kill_the_turn_goes_on_in_its_trace(api: Api, collector: Collector, traced: AppHost) -> None:
    session_id = await api.session()
    turn_id = await say(api, session_id, script(tokens=100, token_ms=20), **{"x-correlation-id": "corr-of-killed"})

    async def streaming() -> Span | None:
        """The span of the request, once it has left the host, which it does not survive, and the answer has begun."""
        begun = await api.events(session_id)
        posted = collector.of(parley__correlation_id="corr-of-killed")
        return posted[0] if posted and "stream.chunk" in {event["type"] for event in begun} else None

    posted = await eventually(streaming, "the turn to stream")
    traced.kill()
    traced.start()
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    spans = await whole_turn(collector, turn_id)
    assert {span.trace_id for span in spans} == {posted.trace_id}
    assert sorted(tree(spans)) == sorted(
        [
            (posted.name, ""),
            ("invoke_agent", posted.name),
            # The model call that was killed never ended, so it is not there; its repeat is.
            ("call_model", "invoke_agent"),
            ("chat scripted", "call_model"),
        ]
    )


async def test_the_log_tells_nothing_that_was_said(api: Api, traced: AppHost) -> None:
    session_id = await api.session()
    steps = [[call("calculate", expression="41 * 1009")]]
    turn_id = await say(api, session_id, script(tool_calls=steps, content="a word like marzipan"))
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    log = traced.log()
    assert " INFO " in log
    for said in ("marzipan", "41 * 1009", "41369", "#script", LINK_SECRET, "k%3D1", "k=1"):
        assert said not in log
    # A token of ours: three parts of base64. Approve links are printed for a developer, and nowhere else.
    unlinked = re.sub(r"http://\S+/api/approve/\S+", "", log)
    assert re.search(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}", unlinked) is None
