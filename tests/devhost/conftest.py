"""Fixtures of all tests of the host."""

from __future__ import annotations

import os

import pytest

from devhost.app import processes
from devhost.settings.config import GRACE_SETTING
from tests.support.forking.client import start_library_worker


@pytest.fixture(autouse=True, scope="session")
def _no_grace() -> None:
    """Hosts of these tests stop at once, whatever they are doing, unless a test says otherwise."""
    os.environ.setdefault(GRACE_SETTING, "0")


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of hosts in this process are forked: for tests of what a host does, not of how it starts a process."""
    monkeypatch.setattr(processes, "start_process", start_library_worker)
