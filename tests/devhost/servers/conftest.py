from __future__ import annotations

from tests.support.servers import (  # fixtures, used by name
    _migrated_template,
    empty_postgres_url,
    postgres_server,
    postgres_url,
    redis_url,
    storage_url,
    unique_name,
    valkey_server,
)

__all__ = [
    "_migrated_template",
    "empty_postgres_url",
    "postgres_server",
    "postgres_url",
    "redis_url",
    "storage_url",
    "unique_name",
    "valkey_server",
]
