"""Fixtures for every test: real servers, started when a test first asks (see `support/servers.py`)."""

from __future__ import annotations

import functools
import ssl
import zlib
from collections.abc import Generator
from typing import Any

import certifi
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import settings

from tests.e2e.support.processes import AppHost

pytest_plugins = ["tests.support.servers", "tests.support.effort"]

_SHOWN_CHARS = 6_000

# No test measures time: on a busy machine an example may take long.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers none is to wait: modules that only wait themselves, as the end-to-end ones do, run beside ones
    that compute; and the many small ones come last, to be shared out while another worker ends a long one."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (item.nodeid.startswith("tests/unit/"), _mixed(item.nodeid.partition("::")[0])))


def _mixed(module: str) -> int:
    """A place in an order that is the same in every process and has nothing to do with folders."""
    return zlib.crc32(module.encode())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the hosts of a test that failed have logged last."""
    report = yield
    if report.failed:
        for name, host in getattr(item, "funcargs", {}).items():
            if isinstance(host, AppHost):
                report.sections.append((f"log of {name}", host.log()[-_SHOWN_CHARS:]))
    return report


# A busy machine answers late: the five seconds that httpx waits by itself are no test's. Whoever is about one sets one.
DEFAULT_TIMEOUT_CONFIG.connect = DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.write = 60.0
DEFAULT_TIMEOUT_CONFIG.pool = 60.0


_create_context = ssl.create_default_context
_public_context = functools.cache(functools.partial(_create_context, cafile=certifi.where()))


def _context_made_once(*args: Any, **options: Any) -> ssl.SSLContext:
    """The context that each client of httpx makes for itself, even to speak plain HTTP, is made once: reading the
    certificates of all authorities takes longer than most tests."""
    is_public = not args and options == {"cafile": certifi.where()}
    return _public_context() if is_public else _create_context(*args, **options)


ssl.create_default_context = _context_made_once
