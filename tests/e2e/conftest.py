"""Fixtures of the end-to-end tests; `support/stack.py` says what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.support.signalr import Console, running_console
from tests.e2e.support.stack import api, contract, model_url, own_host, parley, sink

__all__ = ["api", "contract", "model_url", "own_host", "parley", "sink"]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    """Makes real SignalR clients."""
    async with running_console() as console:
        yield console
