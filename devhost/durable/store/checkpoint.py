"""Moves committed pages from the write-ahead log into the database file, in a thread of its own.

A checkpoint waits for the disk; inside a commit it would delay about every twentieth turn.
Invariant: the log stays bounded. Passive checkpoints normally keep it small. If it grows past the limit because
commits never pause, a checkpoint that blocks writers restarts it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading

logger = logging.getLogger("devhost.durable")

_COMMITS_PER_CHECKPOINT = 200
_LONGEST_LOG_PAGES = 16_384  # 64 MB of 4 KB pages


class Checkpointer:
    """Has its own connection and thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._commits = 0
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="durable-checkpoint", daemon=True)
        self._thread.start()

    def note_commit(self) -> None:
        """Called by the writer after each commit."""
        self._commits += 1
        if self._commits >= _COMMITS_PER_CHECKPOINT:
            self._commits = 0
            self._wanted.set()

    def close(self) -> None:
        self._closed = True
        self._wanted.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            try:
                pages = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
                if pages > _LONGEST_LOG_PAGES:
                    self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            except sqlite3.Error:
                # Nothing is lost, since the log keeps every commit until a later checkpoint succeeds.
                logger.warning("the durable store could not checkpoint its log", exc_info=True)
