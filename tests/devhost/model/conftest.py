"""Fixtures: offline model servers inside the test's own loop, and the real openai client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest

from devhost.model.server import ModelOptions, start_server

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(api_key="k")` starts a scripted server without pacing and returns its origin."""
    runners = []

    async def start(**options: Any) -> str:
        chosen = {"scripted": True, "first_s": 0, "token_s": 0, "context_tokens": 50_000, **options}
        runner, port = await start_server(ModelOptions(**chosen), host="127.0.0.1", port=0)
        runners.append(runner)
        return f"http://127.0.0.1:{port}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def model_url(serve: Serve) -> str:
    """Origin of a scripted server without pacing."""
    return await serve()


@pytest.fixture
async def client(model_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The real client with its retries off, so that a test sees each failure."""
    async with openai.AsyncOpenAI(base_url=f"{model_url}/v1", api_key="none", max_retries=0, timeout=20) as real_client:
        yield real_client


@pytest.fixture
def script() -> Callable[..., str]:
    """`script(tokens=3)` makes the user message that carries the script."""

    def make(**directives: Any) -> str:
        return "#script " + json.dumps(directives) + "\nthe rest is ordinary text"

    return make
