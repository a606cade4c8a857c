"""Loads named queries from the `.sql` files beside the stores. Implements no port.

A file is a list of `-- name: query_name` lines, each followed by one statement. Parameters are psycopg's
`%(name)s`. Text stays bytes, so that nothing can be formatted into it by accident.

Comments and white space are for readers of the file: psycopg keeps what it made of a statement only up to 4,096 bytes
and 50 parameters, and takes a longer one apart again at every use, which took a twelfth of a turn's processor time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_QUOTED = re.compile(r"('(?:[^']|'')*')")
_COMMENT_OR_QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*")
_SPACE = re.compile(r"\s+")
_LOOSE = re.compile(r" ?([(),]) ?")


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
        queries[query] = compact(body).encode()
    return MappingProxyType(queries)


def compact(statement: str) -> str:
    """The statement without its comments and most of its white space. Texts in quotes stay as they are."""
    parts: list[str] = []
    for place, part in enumerate(_QUOTED.split(_COMMENT_OR_QUOTED.sub(_without_comment, statement))):
        parts.append(part if place % 2 else _LOOSE.sub(r"\1", _SPACE.sub(" ", part)))
    return "".join(parts).strip()


def _without_comment(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith("'") else " "
