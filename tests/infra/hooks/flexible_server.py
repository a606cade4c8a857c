"""The tests' PostgreSQL in the shape of a flexible server that was just made: administrators, and no schema."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import errors, sql

ADMINISTRATORS = "azure_pg_admin"


@dataclass
class Server:
    """As Azure makes one: whoever administers is a member of a role, which owns the schema and not the database."""

    url: str
    """Of a superuser, for the tests alone."""
    database: str
    administrators: tuple[str, str]
    password: str

    def as_user(self, name: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{name}:{self.password}@{parts.netloc.rpartition('@')[2]}"))


@contextlib.contextmanager
def flexible_server(admin_url: str) -> Iterator[Server]:
    """admin_url: of a superuser of the tests' PostgreSQL, in which this is a database and some roles."""
    admin = urlsplit(admin_url)
    name, password = f"t_{uuid.uuid4().hex}", secrets.token_hex(16)
    people = (f"me_{name}@example.com", f"pipeline_{name}")
    made = Server(urlunsplit(admin._replace(path=f"/{name}")), name, people, password)
    with psycopg.connect(urlunsplit(admin), autocommit=True) as connection:
        with contextlib.suppress(errors.DuplicateObject, errors.UniqueViolation):  # another worker's tests have it, too
            connection.execute(f"CREATE ROLE {ADMINISTRATORS} CREATEROLE CREATEDB")
        for person in people:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(person), sql.Literal(password), sql.Identifier(ADMINISTRATORS)
                )
            )
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        # Azure's function makes a role of an identity; here a plain role, with the administrators' password. It is in a
        # schema that only these administrators look into.
        schema = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        connection.execute(
            sql.SQL(
                "CREATE FUNCTION {}.pgaadauth_create_principal_with_oid(text, text, text, boolean, boolean)"
                " RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
                " ASSERT $3 = 'service' AND NOT $4 AND NOT $5;"
                " EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', $1, $2); RETURN $1; END $$"
            ).format(schema)
        )
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, sql.Identifier(ADMINISTRATORS)))
        for person in people:
            looks = sql.SQL("ALTER ROLE {} IN DATABASE postgres SET search_path = {}")
            connection.execute(looks.format(sql.Identifier(person), schema))
    with psycopg.connect(made.url, autocommit=True) as connection:
        connection.execute(f"ALTER SCHEMA public OWNER TO {ADMINISTRATORS}")
    try:
        yield made
    finally:
        with psycopg.connect(urlunsplit(admin), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(schema))
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
            for role in (*people, f"id-{name}"):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
