"""One user's requests. Each that changes something is an operation of the history."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from devtools.chaos.history import History, Operation, Outcome, outcome_of

ANSWER_LIMIT_S = 60.0
"""A request is answered in this time, or its connection breaks: none may wait for a dependency without an end."""
_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Answer:
    """status: 0: none. body: of JSON; empty when there is none."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.status)


@dataclass
class World:
    """What all users share. stopping: begin nothing new; gives_up: wait for nothing any more."""

    http: aiohttp.ClientSession
    base_url: str
    history: History
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    gives_up: asyncio.Event = field(default_factory=asyncio.Event)


class Client:
    """user: `NAME[;role,role]`."""

    def __init__(self, world: World, user: str) -> None:
        self.world = world
        self.user = user
        self.headers = {"x-dev-user": user}

    async def insist(self, kind: str, method: str, path: str, *, key: str, **options: Any) -> Answer:
        """Ask until it is known what became of it. Each try is an operation; the request must bear to be repeated."""
        while True:
            answer = await self.ask(kind, method, path, key=key, **options)
            if (answer.outcome is not Outcome.UNKNOWN and answer.status != 429) or self.world.gives_up.is_set():
                return answer
            await asyncio.sleep(_PAUSE_S)

    async def ask(
        self, kind: str, method: str, path: str, *, key: str, detail: dict[str, Any] | None = None, **options: Any
    ) -> Answer:
        """Ask once."""
        history = self.world.history
        began_s = history.now()
        answer, why = await self._send(method, path, **options)
        detail = {**(detail or {}), "path": path}
        if why:
            detail["why"] = why
        if answer.outcome is Outcome.OK:
            detail |= _ids(answer.body)
        history.add(Operation(kind, self.user, key, began_s, history.now(), answer.outcome, answer.status, detail))
        return answer

    async def read(self, path: str) -> Answer:
        """Ask for something that changes nothing. Only those without an answer in time are operations."""
        history = self.world.history
        began_s = history.now()
        answer, why = await self._send("GET", path)
        history.counts["read", answer.outcome] += 1
        if why == TimeoutError.__name__:
            detail = {"path": path, "why": why}
            history.add(Operation("read", self.user, path, began_s, history.now(), answer.outcome, 0, detail))
        return answer

    async def _send(self, method: str, path: str, **options: Any) -> tuple[Answer, str]:
        """The answer, and why there is none."""
        headers = {**self.headers, **options.pop("headers", {})}
        timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
        url = self.world.base_url + path
        try:
            async with self.world.http.request(method, url, headers=headers, timeout=timeout, **options) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(0), TimeoutError.__name__ if isinstance(error, TimeoutError) else type(error).__name__
        body: Any = None
        with contextlib.suppress(ValueError):
            body = orjson.loads(data)
        why = str(body.get("code", "")) if isinstance(body, dict) and response.status >= 400 else ""
        return Answer(response.status, body if isinstance(body, dict) else {}), why


def _ids(body: dict[str, Any]) -> dict[str, Any]:
    """Of what an answer is about."""
    parts = {"id": body, "message_id": body.get("message"), "turn_id": body.get("turn")}
    return {name: part["id"] for name, part in parts.items() if isinstance(part, dict) and "id" in part}
