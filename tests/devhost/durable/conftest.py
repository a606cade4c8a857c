"""Fixtures of the durable engine's tests."""

from __future__ import annotations

from tests.devhost.real.comparing import as_recorded, host

__all__ = ["as_recorded", "host"]
