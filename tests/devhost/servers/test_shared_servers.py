"""The fixtures other tests build on."""

from __future__ import annotations

import psycopg
import pytest
import redis
from azure.data.tables import TableServiceClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_a_module_gets_a_database_of_its_own_and_may_write(empty_postgres_url: str) -> None:
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("CREATE TABLE item (id uuid PRIMARY KEY DEFAULT uuidv7(), text text)")
        connection.execute("INSERT INTO item (text) VALUES ('one')")
        assert connection.execute("SELECT text FROM item").fetchall() == [("one",)]


def test_the_application_role_is_no_superuser(empty_postgres_url: str) -> None:
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SHOW is_superuser").fetchone() == ("off",)


def test_the_application_role_may_create_the_trusted_extensions(empty_postgres_url: str) -> None:
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        connection.execute("CREATE EXTENSION unaccent")


def test_two_fixtures_of_one_module_are_two_databases(postgres_url: str, empty_postgres_url: str) -> None:
    assert postgres_url != empty_postgres_url


def test_a_module_gets_an_empty_redis_database(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("key", "value")


def test_tables_answer(storage_url: str, unique_name: str) -> None:
    with TableServiceClient.from_connection_string(storage_url) as service:
        table = service.create_table(unique_name)
        table.create_entity({"PartitionKey": "p", "RowKey": "r", "n": 1})
        assert table.get_entity("p", "r")["n"] == 1
        service.delete_table(unique_name)
