"""Fixtures of the console's tests: the built console, the hosts of the end-to-end tests, and a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from devtools import console as console_build
from devtools.browser.chromium import Chromium, NoChromium, install
from tests.e2e.support.processes import AppHost
from tests.e2e.support.stack import api, contract, model_url, own_host, parley, sink
from tests.web.support.browsing import Http, Visitor, running_browser

__all__ = ["api", "contract", "model_url", "own_host", "parley", "sink"]


@pytest.fixture(scope="session")
def built() -> None:
    """`web/dist` is what the sources say; other test processes wait for the one that builds."""
    try:
        asyncio.run(console_build.build())
    except console_build.ConsoleNotBuilt as reason:
        pytest.fail(f"the console cannot be built: {reason}", pytrace=False)


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    try:
        return asyncio.run(install())
    except NoChromium as reason:
        pytest.fail(str(reason), pytrace=False)


@pytest.fixture(scope="module")
def browser(built: None, chromium: Chromium) -> Iterator[Browser]:
    """One per module: what drives it holds an event loop that asynchronous tests of the same worker cannot share."""
    with running_browser(chromium) as running:
        yield running


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors of a host; at the end, whatever their pages logged fails the test."""
    visitors: list[Visitor] = []

    def arrive(host: AppHost, **options: object) -> Visitor:
        visitors.append(Visitor(browser, host.base_url, **options))  # type: ignore[arg-type]
        return visitors[-1]

    yield arrive
    for visitor in visitors:
        visitor.context.close()
    assert [line for visitor in visitors for line in visitor.logged] == []


@pytest.fixture
def http(parley: AppHost) -> Iterator[Http]:
    client = Http(parley.base_url)
    yield client
    client.close()
