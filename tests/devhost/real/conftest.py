"""Fixtures of the cases that only the recordings have."""

from __future__ import annotations

from tests.devhost.real.comparing import as_recorded, host

__all__ = ["as_recorded", "host"]
