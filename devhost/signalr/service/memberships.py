"""The groups that a user's later connections join, kept across restarts of the host.

In Azure this list belongs to the SignalR service, which outlives restarts of the function app, so it is on disk
here. Invariant: memory and file agree after each call. Reads use memory; the file is for the next start.
Source: Azure SignalR Service data plane REST API 2022-06-01, "Add a user to the target group".
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

YEAR_S = 365 * 24 * 3600.0
LASTING_GROUPS_PER_USER = 100
"""The service keeps only this many of the latest groups that a user joined without a time limit."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user_group (
  hub TEXT NOT NULL,
  user_id TEXT NOT NULL,
  group_name TEXT NOT NULL,
  joined_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  is_lasting INTEGER NOT NULL,
  PRIMARY KEY (hub, user_id, group_name)
) WITHOUT ROWID
"""


class UserGroups:
    """Groups by hub and user; times are Unix seconds."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # After a power failure the app joins a lost membership again; an fsync per join would cost more.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_SCHEMA)
        self._db.execute("DELETE FROM user_group WHERE expires_at <= ?", (time.time(),))
        # (hub, user) -> group -> (expires_at, is_lasting), least recently joined first
        self._groups: dict[tuple[str, str], dict[str, tuple[float, bool]]] = {}
        rows = self._db.execute(
            "SELECT hub, user_id, group_name, expires_at, is_lasting FROM user_group ORDER BY joined_at"
        )
        for hub, user_id, group, expires_at, is_lasting in rows:
            self._groups.setdefault((hub, user_id), {})[group] = (expires_at, bool(is_lasting))

    def of(self, hub: str, user_id: str) -> list[str]:
        """The groups a new connection of the user joins."""
        now = time.time()
        return [group for group, (until, _) in self._groups.get((hub, user_id), {}).items() if until > now]

    def add(self, hub: str, user_id: str, group: str, *, ttl_s: float | None = None) -> None:
        """Store a membership for `ttl_s` seconds, or for a year as one of the user's latest 100."""
        now = time.time()
        is_lasting = ttl_s is None
        expires_at = now + (YEAR_S if ttl_s is None else ttl_s)
        groups = self._groups.setdefault((hub, user_id), {})
        groups.pop(group, None)  # joined again: it moves to the end
        groups[group] = (expires_at, is_lasting)
        self._db.execute(
            "INSERT OR REPLACE INTO user_group VALUES (?, ?, ?, ?, ?, ?)",
            (hub, user_id, group, now, expires_at, is_lasting),
        )
        lasting = [name for name, (_, lasts) in groups.items() if lasts]
        for name in lasting[:-LASTING_GROUPS_PER_USER]:
            self.remove(hub, user_id, name)

    def remove(self, hub: str, user_id: str, group: str) -> None:
        """Delete one membership; an unknown one is not an error."""
        groups = self._groups.get((hub, user_id), {})
        if groups.pop(group, None) is None:
            return
        if not groups:
            del self._groups[hub, user_id]
        self._db.execute(
            "DELETE FROM user_group WHERE hub = ? AND user_id = ? AND group_name = ?", (hub, user_id, group)
        )

    def remove_all(self, hub: str, user_id: str) -> None:
        if self._groups.pop((hub, user_id), None) is not None:
            self._db.execute("DELETE FROM user_group WHERE hub = ? AND user_id = ?", (hub, user_id))

    def take_expired(self) -> Iterator[tuple[str, str, str]]:
        """Delete expired memberships and yield (hub, user, group) of each."""
        now = time.time()
        expired = [
            (hub, user_id, group)
            for (hub, user_id), groups in self._groups.items()
            for group, (until, _) in groups.items()
            if until <= now
        ]
        for hub, user_id, group in expired:
            self.remove(hub, user_id, group)
            yield hub, user_id, group

    def close(self) -> None:
        self._db.close()
