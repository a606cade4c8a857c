"""Fixtures of all tests of the host."""

from __future__ import annotations

import os

import pytest

from devhost.durable.settings import GRACE_SETTING


@pytest.fixture(autouse=True, scope="session")
def _no_grace() -> None:
    """Hosts of these tests stop at once, whatever they are doing, unless a test says otherwise."""
    os.environ.setdefault(GRACE_SETTING, "0")
