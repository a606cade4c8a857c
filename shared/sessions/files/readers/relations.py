"""The relations between the parts of an office document: which part is a header, a comment, a sheet.

Invariant: only parts inside the archive are named; a relation to anything outside is dropped.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from shared.sessions.files.readers.zipped import Archive

_MAX_RELATIONS = 20_000


@dataclass(frozen=True, slots=True)
class Relation:
    """kind: the last word of its type, such as `header` or `comments`. part: a name in the archive."""

    id: str
    kind: str
    part: str


def relations(archive: Archive, part: str) -> list[Relation]:
    """The relations of a part, in the order of the file."""
    folder, name = posixpath.split(part)
    source = posixpath.join(folder, "_rels", f"{name}.rels")
    found: list[Relation] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag != "Relationship" or attributes.get("TargetMode") == "External" or len(found) >= _MAX_RELATIONS:
            return
        target = attributes.get("Target", "")
        path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        found.append(Relation(attributes.get("Id", ""), attributes.get("Type", "").rpartition("/")[2], path))

    if source in archive.names:
        archive.parse(source, start=start)
    return [relation for relation in found if relation.part in archive.names]
