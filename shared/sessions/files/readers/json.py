"""JSON documents.

Invariant: values are counted and nesting is measured in the text before it is parsed, so a document of a million empty
lists or brackets never becomes objects.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from shared.sessions.files.readers.analysis import (
    Analysis,
    Job,
    TextSink,
    too_large,
)
from shared.sessions.files.readers.encoding import Encoding, beginning, detect_encoding, pieces
from shared.sessions.files.readers.text import read_plain
from shared.sessions.models import FileKind

# A string, or a bracket outside of one. Possessive, so that a missing quote does not cause backtracking.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_MAX_KEYS = 100


class JsonStrategy:
    """Text that begins and ends like an object or a list. A bare scalar is plain text."""

    def recognise(self, job: Job) -> bool:
        encoding = detect_encoding(job)
        if encoding is None:
            return False
        head = beginning(job, encoding, 4096).strip()
        if head[:1] == "[":  # many logs and INI files begin with a bracketed word
            return re.match(r'\[\s*(["\[\]{\d-]|true|false|null|\Z)', head) is not None and self._ends(
                job, encoding, "]"
            )
        return head[:1] == "{" and re.match(r'\{\s*("|\}|\Z)', head) is not None and self._ends(job, encoding, "}")

    def analyze(self, job: Job) -> Analysis:
        import orjson

        encoding = detect_encoding(job) or Encoding("utf-8", is_guess=True)
        text = "".join(pieces(job, encoding))
        depth, values = _measure(text, job)
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            plain = read_plain(job, FileKind.TEXT, "text/plain")
            note = f"This looks like JSON but is not (line {exc.lineno}, column {exc.colno}); read as plain text."
            return replace(plain, warnings=(*plain.warnings, note))
        sink = TextSink(job.limits.max_text_chars)
        sink.add(text)
        facts = {"size_bytes": job.size_bytes, "encoding": encoding.name, "depth": depth, "values": values}
        return Analysis(
            FileKind.JSON,
            "application/json",
            sink.text(),
            {**facts, **_shape(document)},
            (*encoding.warnings(), *sink.warnings()),
        )

    @staticmethod
    def _ends(job: Job, encoding: Encoding, bracket: str) -> bool:
        job.file.seek(max(0, job.size_bytes - 4096))
        tail = job.file.read().rstrip(b" \t\r\n\x00")
        return tail.endswith(bracket.encode()) or encoding.name.startswith(("utf-16", "utf-32"))


def _measure(text: str, job: Job) -> tuple[int, int]:
    """Depth, and an upper bound of the number of values (separators in strings are counted too)."""
    limits = job.limits
    values = text.count(",") + text.count("[") + text.count("{") + text.count(":")
    if values > limits.max_json_values:
        raise too_large(f"The JSON document has more than {limits.max_json_values} values.")
    depth = deepest = 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number % 10_000 == 0:
            job.deadline.check()
        sign = text[token.start()]
        if sign in "[{":
            depth += 1
            if depth > limits.max_json_depth:
                raise too_large(f"The JSON document is nested deeper than {limits.max_json_depth} levels.")
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    return deepest, values


def _shape(document: Any) -> dict[str, Any]:
    if isinstance(document, dict):
        return {"type": "object", "keys": [key[:200] for key in list(document)[:_MAX_KEYS]]}
    if isinstance(document, list):
        kinds = sorted({_type_name(item) for item in document})
        return {"type": "array", "items": len(document), "item_types": kinds}
    return {"type": _type_name(document)}


def _type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
