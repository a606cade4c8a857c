"""The baseline: the same work sent directly to the model with the same HTTP client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import aiohttp
import orjson

from devtools.bench.load.view import UnexpectedTurn

_HEADERS = {"Content-Type": "application/json"}
_DONE = b"data: [DONE]"
_CONTENT = b'"content":"'


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one turn, in seconds after its first request was sent."""

    first_s: float
    """Time to the first token of text."""
    total_s: float


async def bare_turn(http: aiohttp.ClientSession, model_url: str, bodies: Sequence[bytes]) -> Timing:
    """Make a turn's model calls one after the other; the time to the first token is that of the last call."""
    began = perf_counter()
    first = ended = began
    for body in bodies:
        first, ended, _ = await _call(http, model_url, body)
    return Timing(first - began, ended - began)


async def bare_text(http: aiohttp.ClientSession, model_url: str, body: bytes) -> str:
    """The text that the model streams for one request."""
    _, _, data = await _call(http, model_url, body)
    events = [orjson.loads(line[6:]) for line in data.split(b"\n\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def _call(http: aiohttp.ClientSession, model_url: str, body: bytes) -> tuple[float, float, bytes]:
    """Time of the first token, time of the end, and the data. Without text (tool calls), the first time is the end."""
    first = 0.0
    data = bytearray()
    async with http.post(f"{model_url}/chat/completions", data=body, headers=_HEADERS) as response:
        async for chunk in response.content.iter_any():
            now = perf_counter()
            data += chunk
            if not first and _has_token(data):
                first = now
    ended = perf_counter()
    if response.status != 200 or _DONE not in data:
        raise UnexpectedTurn(f"the model answered {response.status}: {bytes(data[:500])!r}")
    return first or ended, ended, bytes(data)


def _has_token(data: bytearray) -> bool:
    """Whether the data contains a delta with text; the text of the first delta is empty."""
    position = data.find(_CONTENT)
    while position >= 0:
        following = data[position + len(_CONTENT) : position + len(_CONTENT) + 1]
        if following and following != b'"':
            return True
        position = data.find(_CONTENT, position + 1)
    return False
