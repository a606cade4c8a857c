"""The same work straight to the model, with the same client: what the system's figures are compared with."""

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
    """One turn. Seconds from the sending of the first request."""

    first_s: float
    """To the first token of text."""
    total_s: float


async def bare_turn(http: aiohttp.ClientSession, model_url: str, bodies: Sequence[bytes]) -> Timing:
    """Make a turn's model calls one after the other; the first token is the last call's."""
    began = perf_counter()
    first = ended = began
    for body in bodies:
        first, ended, _ = await _call(http, model_url, body)
    return Timing(first - began, ended - began)


async def bare_text(http: aiohttp.ClientSession, model_url: str, body: bytes) -> str:
    """The text the model streams for one request."""
    _, _, data = await _call(http, model_url, body)
    events = [orjson.loads(line[6:]) for line in data.split(b"\n\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def _call(http: aiohttp.ClientSession, model_url: str, body: bytes) -> tuple[float, float, bytes]:
    """When its first token came, when it ended, and what came. A call of tools has no first token: then its end."""
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
    """Whether a delta with text is in there; the opening one carries empty text."""
    position = data.find(_CONTENT)
    while position >= 0:
        following = data[position + len(_CONTENT) : position + len(_CONTENT) + 1]
        if following and following != b'"':
            return True
        position = data.find(_CONTENT, position + 1)
    return False
