"""Loads named queries from the `.sql` files beside the stores. Implements no port.

A file is a list of `-- name: query_name` lines, each followed by one statement. Parameters are psycopg's
`%(name)s`. Text stays bytes, so that nothing can be formatted into it by accident.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(name: str) -> Mapping[str, bytes]:
    """The queries of a file of this package, by name. name: its path without suffix, as `turns/steps`.

    Raises ValueError on a name given twice.
    """
    text = (files(__package__) / f"{name}.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    queries: dict[str, bytes] = {}
    for query, body in zip(parts[::2], parts[1::2], strict=True):
        if query in queries:
            raise ValueError(f"{name}.sql defines {query} twice")
        queries[query] = body.strip().encode()
    return MappingProxyType(queries)
