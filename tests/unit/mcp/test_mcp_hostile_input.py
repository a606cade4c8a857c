"""Whatever JSON a server sends as a tool, a result or an event stream: accepted within limits, or refused by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.adapters.mcp.wire import BadAnswer, header_value, large_answers, messages_of
from shared.sessions.mcp.definitions import MAX_MODEL_SCHEMA_BYTES, Definition, argument_schema, read_offered
from shared.sessions.mcp.pins import PinnedTool, changes, pin_of
from shared.sessions.mcp.results import MAX_TEXT_CHARS, read_result
from shared.sessions.mcp.servers import McpServer
from shared.sessions.tools.base import InvalidToolArguments, validate_arguments
from shared.sessions.tools.kinds.pinned import pinned_tool
from shared.visible import visible_text

KEYWORDS = st.sampled_from(
    [
        *("type", "properties", "items", "$ref", "$defs", "anyOf", "enum", "const", "description", "title", "default"),
        *("required", "pattern", "x-mcp-header", "additionalProperties", "patternProperties", "not", "if", "then"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        ["object", "string", "integer", "#", "#/$defs/a", "#/properties/a", "https://x.example/", "a\u202eb", "("]
    ),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYWORDS, st.text(max_size=4)), inner, max_size=5)
    ),
    max_leaves=25,
)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object")},
    optional={
        "properties": st.dictionaries(st.text(max_size=4), ANYTHING, max_size=4),
        "$defs": ANYTHING,
        "anyOf": ANYTHING,
    },
)
TOOLS = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "a.b", "\u202e", ""]), "inputSchema": st.one_of(SCHEMAS, ANYTHING)},
    optional={"description": LEAVES, "title": LEAVES, "annotations": ANYTHING, "_meta": ANYTHING},
)


@settings(max_examples=40)
@given(st.lists(st.one_of(TOOLS, ANYTHING), max_size=4), ANYTHING)
def test_every_tool_is_accepted_within_limits_or_refused_by_name(told: list[Any], arguments: Any) -> None:
    offered = read_offered(orjson.loads(orjson.dumps(told)), "2026-07-28")

    assert all(visible_text(name) == name for name in offered.refused)
    for definition in offered.definitions.values():
        schema = argument_schema(definition)
        assert len(orjson.dumps(schema)) <= 2 * MAX_MODEL_SCHEMA_BYTES
        assert Definition.of_store(orjson.loads(orjson.dumps(definition.stored()))).digest == definition.digest
        assert changes(definition, definition) == []
        server = McpServer(name="s", url="https://s.example/", tools=[definition.name])
        tool = pinned_tool(PinnedTool(**dict(pin_of(server, definition))))
        if isinstance(arguments, dict):
            with contextlib.suppress(InvalidToolArguments):
                assert validate_arguments(tool, arguments).model_dump() == arguments


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["content", "structuredContent", "isError", "resultType"]), ANYTHING))
def test_every_result_is_text_within_limits_or_refused(raw: dict[str, Any]) -> None:
    with contextlib.suppress(ValueError):
        assert len(read_result(raw).text) <= MAX_TEXT_CHARS


MESSAGES = [{"jsonrpc": "2.0", "method": "a"}, {"jsonrpc": "2.0", "id": 1, "result": {"text": "é\u2028\n"}}]
_LINES = [b"data: " + orjson.dumps(message) for message in MESSAGES]
STREAM = b": hello\r\nevent: message\r\n" + _LINES[0] + b"\r\n\r\nid: 7\r" + _LINES[1] + b"\r\rretry: 5\n\ndata:\n\n"


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_says_the_same_however_it_is_cut(cuts: list[int]) -> None:
    places = sorted({0, len(STREAM), *cuts})
    pieces = [STREAM[start:end] for start, end in pairwise(places)]

    assert _read("text/event-stream", pieces) == MESSAGES


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from(["text/event-stream", "application/json"]))
def test_bytes_are_messages_or_a_bad_answer(pieces: list[bytes], kind: str) -> None:
    with contextlib.suppress(BadAnswer):
        assert all(message["jsonrpc"] == "2.0" for message in _read(kind, pieces))


@given(st.text())
def test_a_header_carries_any_text_in_plain_characters(text: str) -> None:
    value = header_value(text)

    assert value.isascii()
    assert value == value.strip()
    assert all(" " <= character <= "~" for character in value)


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_depth_is_refused_and_no_error_of_ours(depth: int) -> None:
    text = b'{"a":' * depth + b"1" + b"}" * depth
    with pytest.raises(BadAnswer, match=r"not JSON|not a JSON-RPC message"):
        _read("application/json", [text])
    if depth < 1_000:
        tool = {"name": "a", "inputSchema": orjson.loads(text)}
        assert set(read_offered([tool], "").refused) == {"a"}


def _read(kind: str, pieces: list[bytes]) -> list[Any]:
    async def chunks() -> AsyncGenerator[bytes]:
        for piece in pieces:
            yield piece

    async def read() -> list[Any]:
        answer: Any = SimpleNamespace(headers={}, content_type=kind, content=SimpleNamespace(iter_any=chunks))
        return [message async for message in messages_of(answer, b"", large_answers())]

    return asyncio.run(read())
