"""Fixtures of the console's tests: the built console, served by the hosts that the end-to-end tests use."""

from __future__ import annotations

import asyncio

import pytest

from devtools import console as console_build
from tests.e2e.stack import api, contract, model_url, own_host, parley, sink

__all__ = ["api", "contract", "model_url", "own_host", "parley", "sink"]


@pytest.fixture(scope="session")
def built() -> None:
    """`web/dist` is what the sources say; other test processes wait for the one that builds."""
    asyncio.run(console_build.build())
