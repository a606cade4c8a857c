"""OpenAI's own client for Python at the app's door, as one user."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from openai import AsyncOpenAI

type Event = Any


def openai_client(base_url: str, user: str, *, max_retries: int = 0) -> AsyncOpenAI:
    """Nothing of it is changed but the address and who calls."""
    return AsyncOpenAI(
        base_url=f"{base_url}/api/openai/v1",
        api_key="unused",
        default_headers={"x-dev-user": user},
        max_retries=max_retries,
    )


async def events_of(stream: AsyncIterable[Event]) -> list[Event]:
    return [event async for event in stream]


def text_of(events: list[Event]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")
