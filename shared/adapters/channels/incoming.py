"""POST to the incoming webhook of a chat. Implements no port: `teams.py` and `slack.py` send through it.

The URL is a secret: whoever has it can write to the chat. So it is in no error, log line or span.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from shared.errors import ErrorCode, Transient

_TIMEOUT = aiohttp.ClientTimeout(total=10)


async def post(url: str, payload: Any, *, to: str) -> None:
    """to: the chat's name, for people. Raises Transient unless it answers 2xx."""
    said = "cannot be reached"
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.post(
                url,
                data=orjson.dumps(payload),
                headers={"content-type": "application/json"},
                allow_redirects=False,
            ) as response,
        ):
            if 200 <= response.status < 300:
                return
            said = f"answered {response.status}"
    except (aiohttp.ClientError, TimeoutError, ValueError):
        pass  # with the URL in its text
    raise Transient(ErrorCode.INTERNAL_ERROR, f"{to} {said}.")
