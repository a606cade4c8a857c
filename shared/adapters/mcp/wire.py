"""JSON-RPC messages over HTTP: what is sent, and what comes back as JSON or as server-sent events.

Invariant: of an answer no more than `MAX_ANSWER_BYTES` are read, whatever the server sends and however it is packed.
Answers longer than `SMALL_BYTES` are read four at a time by a process, so all together take some 100 MB however many
calls run.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import aiohttp
import orjson

from shared.sessions.models import JsonObject

MAX_ANSWER_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 256 * 1024
LARGE_S = 30.0
"""For the rest of an answer that is not small."""
MAX_PARTS = 200_000
"""Commas, colons and brackets of a message. Parsed JSON takes about 60 bytes for each of them."""
MAX_MESSAGES = 1_000
"""In the stream of one answer: notifications and the answer itself."""

_PLAIN = re.compile(r"[!-~]([ !-~]*[!-~])?")
_SENTINEL = re.compile(r"=\?base64\?.*\?=")


def large_answers() -> asyncio.Semaphore:
    """Places for answers that are not small; one for all exchanges of a process."""
    return asyncio.Semaphore(4)


class BadAnswer(ValueError):
    """What came is not an answer. Completes "the server ..."."""


def header_value(value: str) -> str:
    """A value as HTTP can carry it. Source: MCP 2026-07-28, Streamable HTTP, "Value Encoding"."""
    if _PLAIN.fullmatch(value) and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


async def messages_of(
    answer: aiohttp.ClientResponse, hidden: bytes, large: asyncio.Semaphore
) -> AsyncGenerator[JsonObject]:
    """The JSON-RPC messages of an answer, as they come. hidden: a credential that no message may repeat.

    large: from `large_answers`; a place is held until the answer is read. Raises BadAnswer.
    """
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in {"identity", ""}:
        raise BadAnswer("packed its answer although it was asked not to")
    kind = answer.content_type.lower()
    if kind == "text/event-stream":
        count = 0
        async with aclosing(_events(answer, large)) as events:
            async for data in events:
                count += 1
                if count > MAX_MESSAGES:
                    raise BadAnswer(f"sent more than {MAX_MESSAGES} messages for one request")
                yield _message(data, hidden)
    elif kind == "application/json":
        body = bytearray()
        async with AsyncExitStack() as place, aclosing(_chunks(answer, large, place)) as chunks:
            async for chunk in chunks:
                body += chunk
            yield _message(bytes(body), hidden)
    else:
        raise BadAnswer(f"answered with {kind[:60]!r}, neither JSON nor an event stream")


def error_of(message: Mapping[str, Any]) -> tuple[int, str, Any] | None:
    """(code, text, data) of a JSON-RPC error."""
    error = message.get("error")
    if not isinstance(error, Mapping):
        return None
    code = error.get("code")
    return code if isinstance(code, int) else 0, str(error.get("message", "")), error.get("data")


async def _events(answer: aiohttp.ClientResponse, large: asyncio.Semaphore) -> AsyncGenerator[bytes]:
    """The data of each event, in the event-stream format of the HTML standard."""
    pending = bytearray()
    data: list[bytes] = []
    skip_newline = False
    async with AsyncExitStack() as place, aclosing(_chunks(answer, large, place)) as chunks:
        async for chunk in chunks:
            if skip_newline and chunk.startswith(b"\n"):
                chunk = chunk[1:]
            skip_newline = chunk.endswith(b"\r")
            pending += chunk
            if b"\n" not in chunk and b"\r" not in chunk:
                continue
            lines = bytes(pending).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            pending = bytearray(lines.pop())
            for line in lines:
                if line:
                    field, _, value = line.partition(b":")
                    if field == b"data":
                        data.append(value.removeprefix(b" "))
                elif data:
                    joined = b"\n".join(data)
                    data = []
                    if joined:
                        yield joined


async def _chunks(
    answer: aiohttp.ClientResponse, large: asyncio.Semaphore, place: AsyncExitStack
) -> AsyncGenerator[bytes]:
    """The bytes of an answer. One that turns out large enters a place, and has to end soon: others wait for it.

    Raises BadAnswer, TimeoutError.
    """
    read = 0
    ends_at: float | None = None
    arriving = answer.content.iter_any()
    while True:
        async with asyncio.timeout_at(ends_at):
            chunk = await anext(arriving, None)
        if chunk is None:
            return
        if read <= SMALL_BYTES < read + len(chunk):
            await place.enter_async_context(large)
            ends_at = asyncio.get_running_loop().time() + LARGE_S
        read += len(chunk)
        if read > MAX_ANSWER_BYTES:
            raise _too_long()
        yield chunk


def _message(text: bytes, hidden: bytes) -> JsonObject:
    if hidden:
        text = text.replace(hidden, b"[credential]")
    if sum(map(text.count, (b",", b":", b"[", b"{"))) > MAX_PARTS:
        raise BadAnswer(f"sent a message of more than {MAX_PARTS} parts")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadAnswer("sent something that is not JSON") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise BadAnswer("sent something that is not a JSON-RPC message")
    return message


def _too_long() -> BadAnswer:
    return BadAnswer(f"sent more than {MAX_ANSWER_BYTES // 2**20} MiB for one request; the rest was not read")
