from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from shared.errors import ToolRefused
from shared.sessions.tools.builtin.http_request import http_request
from shared.sessions.tools.registry import (
    FetchRequest,
    FetchResponse,
    InvalidToolArguments,
    ToolContext,
    ToolServices,
    validate_arguments,
)


class RecordingFetcher:
    """Answers everything with one response and keeps what it was asked."""

    def __init__(self, **changes: Any) -> None:
        self.requests: list[FetchRequest] = []
        self.response = dataclasses.replace(
            FetchResponse(201, "http://h/x", {"content-type": "text/plain"}, "made", 4, False, False), **changes
        )

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.requests.append(request)
        return self.response


async def run(call: ToolContext, fetcher: RecordingFetcher | None, **arguments: Any) -> Any:
    call = dataclasses.replace(call, services=ToolServices(http=fetcher))
    return await http_request.run(validate_arguments(http_request, arguments), call)


async def test_the_request_carries_the_call_id_as_idempotency_key(call: ToolContext) -> None:
    fetcher = RecordingFetcher()
    output = await run(call, fetcher, method="POST", url="http://h/x", body='{"ž": 1}', headers={"X-A": "b"})
    (request,) = fetcher.requests
    assert request.idempotency_key == "call-1"
    assert request.body == '{"ž": 1}'.encode()
    assert request.headers == {"X-A": "b", "Content-Type": "application/json"}
    assert request.timeout_s < http_request.timeout_s
    assert output.content == "HTTP 201 from http://h/x\ncontent-type: text/plain\n\nmade"
    assert output.data["status"] == 201


async def test_a_given_content_type_wins_and_plain_text_is_not_called_json(call: ToolContext) -> None:
    fetcher = RecordingFetcher()
    await run(call, fetcher, method="PUT", url="http://h/", body="{no", headers={"content-type": "x/y"})
    await run(call, fetcher, method="PUT", url="http://h/", body="{no")
    await run(call, fetcher, method="PUT", url="http://h/", body='{"a": NaN}')
    assert [dict(r.headers) for r in fetcher.requests] == [
        {"content-type": "x/y"},
        {"Content-Type": "text/plain; charset=utf-8"},
        {"Content-Type": "text/plain; charset=utf-8"},
    ]


async def test_cut_and_binary_bodies_are_marked(call: ToolContext) -> None:
    cut = await run(call, RecordingFetcher(is_truncated=True), method="GET", url="http://h/")
    assert cut.content.endswith("made\n[cut after 4 bytes]")
    binary = await run(call, RecordingFetcher(is_binary=True, text=""), method="GET", url="http://h/")
    assert binary.content.endswith("[binary content, 4 bytes, left out]")


async def test_without_a_fetcher_the_call_is_refused(call: ToolContext) -> None:
    with pytest.raises(ToolRefused):
        await run(call, None, method="GET", url="http://h/")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"method": "CONNECT"}, "method"),
        ({"method": "TRACE"}, "method"),
        ({"method": "get"}, "method"),
        ({"url": "ftp://h/"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "//h/x"}, "url"),
        ({"url": "http:///x"}, "url"),
        ({"url": "http://user:pw@h/"}, "url"),
        ({"url": "http://@h/"}, "url"),
        ({"url": "http://h\\@evil/"}, "url"),
        ({"url": "http://h/a b"}, "url"),
        ({"url": "http://h/\r\nX: y"}, "url"),
        ({"url": "http://h:99999/"}, "url"),
        ({"url": "http://h/" + "x" * 3000}, "url"),
        ({"headers": {"Host": "other"}}, "headers"),
        ({"headers": {"cookie": "a=b"}}, "headers"),
        ({"headers": {"Idempotency-Key": "mine"}}, "headers"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers"),
        ({"headers": {"Proxy-Authorization": "x"}}, "headers"),
        ({"headers": {"Metadata": "true"}}, "headers"),
        ({"headers": {"X-Forwarded-For": "1.1.1.1"}}, "headers"),
        ({"headers": {"X-A": "b\r\nHost: c"}}, "headers"),
        ({"headers": {"X A": "b"}}, "headers"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers"),
        ({"headers": {f"x-{i}": "v" for i in range(40)}}, "headers"),
        ({"body": "x" * 100_001}, "body"),
        ({"json": {}}, "json"),
    ],
)
def test_a_request_that_would_be_refused_never_reaches_an_approver(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidToolArguments) as caught:
        validate_arguments(http_request, {"method": "GET", "url": "http://h/", **arguments})
    assert [error["field"].split(".")[0] for error in caught.value.errors] == [field]
