"""The app's role in the database: made once from its identity, and given its rights after every migration.

The app reads and writes rows and changes nothing else: no table, no role, not the list of migrations.
Environment: POSTGRES_URL, APP_IDENTITY_NAME, APP_IDENTITY_OBJECT_ID; see database.sh.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

RIGHTS = (
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM {role}",
)


def grant(url: str, role: str, object_id: str, *, roles_url: str) -> None:
    """roles_url: the database that has Azure's functions for Entra roles, `postgres` on a flexible server."""
    with psycopg.connect(roles_url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
            connection.execute(
                "SELECT pgaadauth_create_principal_with_oid(%s, %s, 'service', false, false)", [role, object_id]
            )
    with psycopg.connect(url) as connection:
        names = {"database": sql.Identifier(connection.info.dbname), "role": sql.Identifier(role)}
        for right in RIGHTS:
            connection.execute(sql.SQL(right).format(**names))


def main() -> int:
    missing = [n for n in ("POSTGRES_URL", "APP_IDENTITY_NAME", "APP_IDENTITY_OBJECT_ID") if not os.environ.get(n)]
    if missing:
        sys.exit(f"not set: {', '.join(missing)}; run this as an azd hook, or after `azd env get-values`")
    url, role = os.environ["POSTGRES_URL"], os.environ["APP_IDENTITY_NAME"]
    roles_url = urlunsplit(urlsplit(url)._replace(path="/postgres"))
    try:
        grant(url, role, os.environ["APP_IDENTITY_OBJECT_ID"], roles_url=roles_url)
    except psycopg.Error as error:
        sys.exit(f"the role {role} could not be given its rights: {error}")
    print(f"database: {role} has its rights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
