"""Fixtures of the SignalR tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from devhost.signalr.service.connection import Limits
from tests.devhost.signalr.signalr_harness import PATIENCE_S, Endpoint, NodeClients, running_endpoint


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    # A client that is gone without a word and does not poll is waited for.
    async with running_endpoint(tmp_path, Limits(close_grace_s=0.5)) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        yield session


@pytest.fixture
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[NodeClients]:
    """With the options that an indirect parameter names; without one as the client chooses by itself."""
    node = NodeClients(**getattr(request, "param", {}))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
