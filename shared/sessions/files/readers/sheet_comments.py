"""The comments of a sheet's cells: notes, and threads of comments with their answers.

Invariant: comments are streamed into the capped text; only the names of their authors are kept.
"""

from __future__ import annotations

from shared.sessions.files.readers.analysis import TextSink
from shared.sessions.files.readers.relations import relations
from shared.sessions.files.readers.zipped import Archive

_MAX_AUTHORS = 2_000
_MAX_NAME_CHARS = 100
_MAX_COMMENT_CHARS = 32_767


def write_comments(archive: Archive, sheet: str, sink: TextSink) -> int:
    """Add the comments of the sheet's part to the text, one line each; returns how many there are."""
    linked = relations(archive, sheet)
    threads = [relation.part for relation in linked if relation.kind == "threadedComment"]
    notes = [relation.part for relation in linked if relation.kind == "comments"]
    found = _Comments(sink, _people(archive), has_threads=bool(threads))
    for part in (*threads, *notes):
        archive.parse(part, start=found.start, end=found.end, data=found.data)
    return found.count


def _people(archive: Archive) -> dict[str, str]:
    names: dict[str, str] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "person" and len(names) < _MAX_AUTHORS:
            names[attributes.get("id", "")] = attributes.get("displayName", "")[:_MAX_NAME_CHARS]

    for part in sorted(archive.names):
        if part.startswith("xl/persons/") and part.endswith(".xml"):
            archive.parse(part, start=start)
    return names


class _Comments:
    """Callbacks for both kinds. A thread also has a note for programs that do not know threads; it is left out."""

    def __init__(self, sink: TextSink, people: dict[str, str], *, has_threads: bool) -> None:
        self.count = 0
        self._sink, self._people, self._has_threads = sink, people, has_threads
        self._authors: list[str] = []
        self._cell = self._author = ""
        self._text: list[str] = []
        self._chars = 0
        self._reading: str | None = None  # the element whose text is read

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "comment":
            number = attributes.get("authorId", "")
            index = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else _MAX_AUTHORS
            self._begin(attributes, self._authors[index] if index < len(self._authors) else "")
        elif tag == "threadedComment":
            self._begin(attributes, self._people.get(attributes.get("personId", ""), ""))
        elif tag in ("author", "t") or (tag == "text" and self._cell):
            self._reading = tag
            if tag == "author":
                self._text, self._chars = [], 0

    def end(self, tag: str) -> None:
        if tag == "author":
            if len(self._authors) < _MAX_AUTHORS:
                self._authors.append("".join(self._text)[:_MAX_NAME_CHARS])
            self._text, self._chars, self._reading = [], 0, None
        elif tag in ("comment", "threadedComment"):
            self._write()
        elif tag == self._reading:
            self._reading = None

    def data(self, text: str) -> None:
        if self._reading is not None and self._chars < _MAX_COMMENT_CHARS:
            self._text.append(text)
            self._chars += len(text)

    def _begin(self, attributes: dict[str, str], author: str) -> None:
        self._cell, self._author = attributes.get("ref", "")[:20], author
        self._text, self._chars, self._reading = [], 0, None

    def _write(self) -> None:
        text = " ".join("".join(self._text).split())
        is_stand_in = self._has_threads and self._author.startswith("tc=")
        if text and not is_stand_in:
            if not self.count:
                self._sink.add("Comments:\n")
            self.count += 1
            by = f" ({self._author})" if self._author and not self._author.startswith("tc=") else ""
            self._sink.add(f"- {self._cell}{by}: {text}\n")
        self._cell = ""
        self._text, self._chars = [], 0
