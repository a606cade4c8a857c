"""Fixtures of the SignalR tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.devhost.signalr.signalr_harness import Endpoint, NodeClients, running_endpoint


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with running_endpoint(tmp_path) as running:
        yield running


@pytest.fixture
async def clients() -> AsyncIterator[NodeClients]:
    node = NodeClients()
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
