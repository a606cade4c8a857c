"""Tables of the durable store.

Invariant: a data folder with another version of the schema is refused.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from devhost.extensions.contract import HostError

SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE instances (
  gen INTEGER PRIMARY KEY,
  instance_id TEXT NOT NULL UNIQUE,
  execution_id TEXT NOT NULL,
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  status TEXT NOT NULL,
  input TEXT,
  output TEXT,
  custom_status TEXT,
  created_us INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  parent_instance_id TEXT,
  parent_execution_id TEXT,
  parent_task_id INTEGER
);
CREATE TABLE history (
  gen INTEGER NOT NULL,
  position INTEGER NOT NULL,
  events TEXT NOT NULL,
  PRIMARY KEY (gen, position)
) WITHOUT ROWID;
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY,
  instance_id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  event TEXT NOT NULL,
  execution_id TEXT NOT NULL,
  task_id INTEGER NOT NULL,
  event_type INTEGER NOT NULL,
  text TEXT NOT NULL
);
CREATE TABLE tasks (
  gen INTEGER NOT NULL,
  task_id INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  instance_id TEXT NOT NULL,
  execution_id TEXT NOT NULL,
  name TEXT NOT NULL,
  input TEXT NOT NULL,
  fire_at_us INTEGER NOT NULL,
  PRIMARY KEY (gen, task_id)
) WITHOUT ROWID;
CREATE TABLE entities (
  entity_id TEXT PRIMARY KEY,
  is_alive INTEGER NOT NULL,
  state TEXT,
  updated_us INTEGER NOT NULL
);
CREATE TABLE entity_ops (
  seq INTEGER PRIMARY KEY,
  entity_id TEXT NOT NULL,
  operation TEXT NOT NULL,
  input TEXT,
  caller TEXT NOT NULL,
  request_id TEXT NOT NULL
);
"""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables, or check that the file has this schema. Raises HostError when it has another."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == SCHEMA_VERSION:
        return
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if found != 0 or tables:
        raise HostError(
            f"{path} was written by another version of the dev host (schema {found}, this one needs "
            f"{SCHEMA_VERSION}); move it away or choose another --data folder"
        )
    connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
