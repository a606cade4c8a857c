"""Fixtures of the tests with a real small model; `stack.py` says what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.client import Api, open_api
from tests.e2e.support.processes import AppHost
from tests.smallmodel.stack import RunningModel, app_with, running_model

_HERE = f"{Path(__file__).parent}/"
_LIMIT_S = 1_800
"""Of one test. Only bounds waiting: the first one also installs the model."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "smallmodel: with a real small model, which is installed and served for it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything in this folder, and leave it out unless it was asked for by `-m smallmodel`."""
    mine = [item for item in items if str(item.path).startswith(_HERE)]
    for item in mine:
        item.add_marker(pytest.mark.smallmodel)
        item.add_marker(pytest.mark.timeout(_LIMIT_S))
    if mine and "smallmodel" not in config.getoption("markexpr"):
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if not str(item.path).startswith(_HERE)]


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningModel]:
    """With the model's own chat template, which takes no tools."""
    with running_model(tmp_path_factory.mktemp("small-model")) as model:
        yield model


@pytest.fixture(scope="session")
def parley(tmp_path_factory: pytest.TempPathFactory, small_model: RunningModel) -> Iterator[AppHost]:
    """The app, told where the model is and nothing else about it."""
    with app_with(tmp_path_factory.mktemp("parley"), small_model) as host:
        yield host


@pytest.fixture
async def api(parley: AppHost) -> AsyncIterator[Api]:
    client = await open_api(parley)
    yield client
    await client.aclose()
