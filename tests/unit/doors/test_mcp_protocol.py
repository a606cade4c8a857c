"""What the MCP server reads as a message, and what it refuses, by name."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from shared.sessions.doors.mcp import protocol
from shared.sessions.doors.mcp.protocol import MODERN, Message, Refused, negotiated, read_message, result_of

META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def modern(method: str = "tools/list", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}


def headers(method: str = "tools/list", name: str | None = None, version: str = MODERN) -> list[tuple[str, str]]:
    named = [] if name is None else [("mcp-name", name)]
    return [("mcp-protocol-version", version), ("mcp-method", method), *named]


def read(body: Any, given: list[tuple[str, str]] | None = None) -> Message:
    return read_message(orjson.dumps(body), headers() if given is None else given)


def refused(body: Any, given: list[tuple[str, str]] | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        read(body, given)
    return caught.value


def test_a_request_of_the_newest_version_is_read() -> None:
    message = read(modern())
    assert (message.id, message.method, message.is_modern) == (1, "tools/list", True)


def test_a_tools_name_stands_in_its_header_in_base64_if_need_be() -> None:
    encoded = f"=?base64?{base64.b64encode('ask_ü'.encode()).decode()}?="
    assert read(modern("tools/call", name="ask_ü"), headers("tools/call", encoded)).params["name"] == "ask_ü"


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18"])
def test_a_request_of_a_version_with_initialize_needs_no_more_than_its_version(version: str) -> None:
    body = {"jsonrpc": "2.0", "id": "a", "method": "tools/list"}
    assert read(body, [("mcp-protocol-version", version)]).version == version


def test_a_client_that_has_not_said_its_version_yet_is_read() -> None:
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    message = read(body, [])
    assert (message.id, message.version) == (0, None)


def test_a_message_without_id_is_a_notification() -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert read(body, [("mcp-protocol-version", "2025-11-25")]).id is None


@pytest.mark.parametrize(
    ("asked", "answer"),
    [("2025-11-25", "2025-11-25"), ("2025-06-18", "2025-06-18"), ("2024-11-05", "2025-11-25"), (None, "2025-11-25")],
)
def test_initialize_is_answered_in_the_version_asked_for_or_the_newest(asked: str | None, answer: str) -> None:
    assert negotiated({"protocolVersion": asked}) == answer


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", protocol.PARSE_ERROR),
        (b"{", protocol.PARSE_ERROR),
        (b"\xff", protocol.PARSE_ERROR),
        (b"[" * 100_000, protocol.PARSE_ERROR),
        (b"[]", protocol.INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', protocol.INVALID_REQUEST),
        (b'"ping"', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', protocol.INVALID_PARAMS),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(Refused) as caught:
        read_message(body, [])
    assert (caught.value.code, caught.value.status) == (code, 400)


def test_another_version_is_refused_with_those_that_are_spoken() -> None:
    refusal = refused(modern(), headers(version="2031-01-01"))
    assert refusal.code == protocol.UNSUPPORTED_VERSION
    assert refusal.body()["error"]["data"] == {"supported": list(protocol.VERSIONS), "requested": "2031-01-01"}


@pytest.mark.parametrize(
    "given",
    [
        headers("tools/call"),
        headers()[:1],
        [*headers(), ("mcp-method", "tools/list")],
        [("mcp-method", "tools/list")],
    ],
)
def test_headers_that_do_not_say_what_the_body_says_are_refused(given: list[tuple[str, str]]) -> None:
    assert refused(modern(), given).code == protocol.HEADER_MISMATCH


@pytest.mark.parametrize("name", [None, "ask_other", "=?base64?!!?=", "=?base64?/w==?="])
def test_a_call_whose_header_names_another_tool_is_refused(name: str | None) -> None:
    refusal = refused(modern("tools/call", name="ask_assistant"), headers("tools/call", name))
    assert (refusal.code, refusal.id) == (protocol.HEADER_MISMATCH, 1)


@pytest.mark.parametrize("meta", [{}, None, "x", {"io.modelcontextprotocol/protocolVersion": MODERN}])
def test_a_request_without_what_each_request_says_is_refused(meta: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    assert refused(body).code == protocol.INVALID_PARAMS


def test_an_unknown_method_has_the_status_of_its_era() -> None:
    now, before = Message(1, "x", {}, MODERN), Message(1, "x", {}, "2025-11-25")
    assert (protocol.no_such_method(now).status, protocol.no_such_method(before).status) == (404, 200)


def test_a_result_says_what_its_era_wants() -> None:
    now, before = Message(1, "x", {}, MODERN), Message(1, "x", {}, "2025-11-25")
    assert result_of(now, {"a": 1}, is_cacheable=True)["result"] == {
        "a": 1,
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    assert result_of(before, {"a": 1}, is_cacheable=True) == {"jsonrpc": "2.0", "id": 1, "result": {"a": 1}}
