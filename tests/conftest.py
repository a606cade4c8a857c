"""Fixtures for every test: real servers, started when a test first asks (see `support/servers.py`)."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.support.servers"]

# No test measures time: on a busy machine an example may take long.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
