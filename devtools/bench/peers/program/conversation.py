"""The messages of a session in PostgreSQL, and the model's answer to them as it comes.

The answer is read as leanly as Parley reads it: with the `openai` client each token is made into models, which costs
more than all the rest of a turn here, and nothing of that is what is compared.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
from psycopg_pool import AsyncConnectionPool

_TABLE = """
CREATE TABLE IF NOT EXISTS messages (
  session_id text NOT NULL, turn_id text NOT NULL, role text NOT NULL, content text NOT NULL,
  number bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (session_id, number), UNIQUE (turn_id, role))
"""
_HISTORY = "SELECT role, content FROM messages WHERE session_id = %s ORDER BY number"
# A step that is repeated writes nothing twice.
_INSERT = (
    "INSERT INTO messages (session_id, turn_id, role, content) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT (turn_id, role) DO NOTHING"
)
_JSON = {"Content-Type": "application/json"}


class Conversations:
    """Of all sessions. Use: `await open()` first."""

    def __init__(self) -> None:
        self._pool = AsyncConnectionPool(os.environ["POSTGRES_URL"], min_size=4, max_size=16, open=False)
        self._url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"

    async def open(self) -> None:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await self._pool.open(wait=True)
        async with self._pool.connection() as connection:
            await connection.execute(_TABLE)

    async def add(self, session_id: str, turn_id: str, role: str, content: str) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(_INSERT, (session_id, turn_id, role, content))

    async def history(self, session_id: str) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_HISTORY, (session_id,))).fetchall()
        return [{"role": role, "content": content} for role, content in rows]

    async def answer(self, history: list[dict[str, Any]]) -> AsyncIterator[str]:
        """The model's answer; what one read of the connection brings, together."""
        asked = {
            "model": "offline-demo",
            "messages": history,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        data, done = b"", False
        async with self._http.post(self._url, data=orjson.dumps(asked), headers=_JSON) as response:
            response.raise_for_status()
            async for read in response.content.iter_any():
                *events, data = (data + read).split(b"\n\n")
                done = done or b"data: [DONE]" in events
                if text := "".join(_text(event) for event in events):
                    yield text
        if not done:
            raise ConnectionError("the model's answer was cut")


def _text(event: bytes) -> str:
    if not event.startswith(b"data: {"):
        return ""
    choices = orjson.loads(event[6:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""
