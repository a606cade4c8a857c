from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.sessions.tools.base import ToolContext


@pytest.fixture
def call() -> ToolContext:
    """A call made on Sunday 22 November 2026 at 12:04:13.5 UTC, without services."""
    now = datetime(2026, 11, 22, 12, 4, 13, 500_000, tzinfo=UTC)
    return ToolContext("call-1", "session-1", "turn-1", "alice", now)
