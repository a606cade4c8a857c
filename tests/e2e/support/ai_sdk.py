"""A chat of the real AI SDK under Node.js, without a page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.e2e.support.client import PATIENCE_S, Json, eventually
from tests.support.node import install, node_binary, node_environment

HERE = Path(__file__).parents[1] / "doors" / "ai_sdk"


class UiChat:
    """What a page would hold. Each method returns its state: `{status, error, messages, finishes, called}`."""

    def __init__(self, process: asyncio.subprocess.Process, chat_id: str) -> None:
        self._process = process
        self.id = chat_id

    async def do(self, name: str, **fields: Any) -> Json:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, **fields}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "the chat's process ended"
        return dict(json.loads(line))

    async def say(self, text: str, **options: Any) -> Json:
        """Send a message and wait until the chat is at rest."""
        await self.do("send", message={"text": text}, **options)
        return await self.do("wait")

    async def until(self, holds: Callable[[Json], Any]) -> Json:
        """Look until the state is as wanted."""

        async def look() -> Json | None:
            state = await self.do("look")
            return state if holds(state) else None

        return await eventually(look, "the chat's state was never as wanted")


@asynccontextmanager
async def ui_chat(
    base_url: str, user: str = "olga;approver", *, chat_id: str | None = None, version: int = 7, **transport: Any
) -> AsyncIterator[UiChat]:
    """version: of `ai`. From 7 on, the URL says so. transport: options of `DefaultChatTransport`."""
    modules = await asyncio.to_thread(install, HERE)
    chat_id = chat_id or f"chat-{uuid4()}"
    api = f"{base_url}/api/v1/ai-sdk/chat" + ("?version=7" if version >= 7 else "")
    process = await asyncio.create_subprocess_exec(
        *(str(node_binary()), str(HERE / "client.cjs"), str(version), api, chat_id),
        *(json.dumps({"x-dev-user": user}), json.dumps(transport)),
        env=node_environment(modules),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 1024 * 1024,
    )
    try:
        yield UiChat(process, chat_id)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


def shown(message: Json) -> str:
    """The text of an assistant's message, without what was taken back."""
    parts: list[Json] = []
    for part in message["parts"]:
        if part["type"] == "data-superseded":
            while parts and parts[-1]["type"] != "step-start":
                parts.pop()
        else:
            parts.append(part)
    return "".join(part["text"] for part in parts if part["type"] == "text")


def turn_of(message: Json) -> Json:
    """What the newest `data-turn` says."""
    return dict([part["data"] for part in message["parts"] if part["type"] == "data-turn"][-1])


def tools(message: Json) -> list[Json]:
    return [part for part in message["parts"] if part["type"] == "dynamic-tool"]
