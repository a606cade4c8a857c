"""Fixtures of the durable engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.devhost.durable.durable_harness import RunningHost, load_app


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[RunningHost]:
    """The sample app on a fresh task hub."""
    async with RunningHost(load_app("durable_basic"), tmp_path) as running:
        yield running
