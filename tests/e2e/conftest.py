"""Fixtures of the end-to-end tests; `support/stack.py` says what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.contract.wire import WireContract
from tests.e2e.support.processes import AppHost
from tests.e2e.support.signalr import Console, running_console
from tests.e2e.support.stack import api, harsh_parley, model_url, own_host, sink
from tests.e2e.support.stack import parley as kind_parley

__all__ = ["api", "harsh_parley", "kind_parley", "model_url", "own_host", "sink"]

_HERE = Path(__file__).parent
_ON_BOTH = {
    "approvals/test_approvals.py",
    "approvals/test_webhooks_and_sweep.py",
    "sessions/test_lifecycle.py",
    "turns/test_one_turn_at_a_time.py",
}
"""Modules whose tests run on a kind and on a harsh engine."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = Path(metafunc.definition.path).relative_to(_HERE).as_posix()
    if module in _ON_BOTH and "parley" in metafunc.fixturenames:
        is_harsh = metafunc.definition.get_closest_marker("harsh") is not None
        metafunc.parametrize("engine", ["harsh"] if is_harsh else ["kind", "harsh"])


@pytest.fixture
def engine() -> str:
    """The engine of `parley`: kind, or harsh (`devhost/harsh.py`)."""
    return "kind"


@pytest.fixture
def parley(engine: str, request: pytest.FixtureRequest) -> AppHost:
    """The shared host with that engine."""
    host: AppHost = request.getfixturevalue(f"{engine}_parley")
    return host


@pytest.fixture(autouse=True)
def _empty_sink(request: pytest.FixtureRequest) -> None:
    """A test that runs on both engines counts what came from its own."""
    if "sink" in request.fixturenames:
        request.getfixturevalue("sink").requests.clear()


@pytest.fixture(scope="session")
def contract(kind_parley: AppHost) -> WireContract:
    """The judge, with the document that the running app serves."""
    return WireContract(httpx.get(f"{kind_parley.base_url}/api/v1/openapi.json", trust_env=False).json())


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
