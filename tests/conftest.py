"""Fixtures for every test: real servers, started when a test first asks (see `support/servers.py`)."""

from __future__ import annotations

pytest_plugins = ["tests.support.servers"]
