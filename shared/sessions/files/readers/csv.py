"""CSV: tables as text, with values separated by comma, semicolon, tab or bar.

Invariant: the file is read line by line; only the capped text and the column types are kept.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice

from shared.sessions.files.readers.analysis import (
    Analysis,
    Job,
    TextSink,
    malformed,
    too_large,
)
from shared.sessions.files.readers.columns import Columns
from shared.sessions.files.readers.encoding import Encoding, detect_encoding, lines, pieces
from shared.sessions.models import FileKind

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE_CHARS = 16_000
_SAMPLE_RECORDS = 50
_MAX_RECORD_CHARS = 1_000_000


class CsvStrategy:
    """At least two records, all with the same number of fields, two or more."""

    def recognise(self, job: Job) -> bool:
        encoding = detect_encoding(job)
        return encoding is not None and _delimiter(job, encoding) is not None

    def analyze(self, job: Job) -> Analysis:
        encoding = detect_encoding(job) or Encoding("utf-8", is_guess=True)
        delimiter = _delimiter(job, encoding) or ","
        sink, columns, width, ragged = TextSink(job.limits.max_text_chars), Columns(job.limits), 0, 0
        try:
            source = _Lines(lines(job, encoding), sink)
            for record in csv.reader(source, delimiter=delimiter):
                source.record_chars = 0
                if not record:
                    continue  # an empty line
                columns.add(record)
                width = width or len(record)
                ragged += len(record) != width
        except csv.Error as exc:
            # An unclosed quote turns the rest of the file into one field; the reader's own limit is 128 Ki characters.
            if "field larger" in str(exc):
                raise too_large("A field of the table is too long; is a quote not closed?") from exc
            raise malformed(f"The table cannot be read after row {columns.rows}.") from exc
        warnings = [f"{ragged} rows have a different number of fields than the first."] if ragged else []
        facts = {"size_bytes": job.size_bytes, "encoding": encoding.name, "delimiter": _NAMES[delimiter]}
        return Analysis(
            FileKind.CSV,
            "text/tab-separated-values" if delimiter == "\t" else "text/csv",
            sink.text(),
            {**facts, **columns.facts()},
            (*encoding.warnings(), *warnings, *sink.warnings()),
        )


class _Lines:
    """Copies lines to the sink, and bounds the size of a record, whose quoted fields may span several lines."""

    def __init__(self, source: Iterator[str], sink: TextSink) -> None:
        self._source, self._sink = source, sink
        self.record_chars = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._source:
            self.record_chars += len(line)
            if self.record_chars > _MAX_RECORD_CHARS:
                raise too_large(f"The table has a row of more than {_MAX_RECORD_CHARS} characters.")
            self._sink.add(line)
            yield line


def _delimiter(job: Job, encoding: Encoding) -> str | None:
    """The separator that splits the beginning into records of equal length; the one with the most columns wins."""
    sample = next(pieces(job, encoding), "")[:_SAMPLE_CHARS]
    whole_lines = sample.splitlines()
    if len(sample) == _SAMPLE_CHARS:
        whole_lines = whole_lines[:-1]  # the last one is probably cut
    best, best_width = None, 1
    for delimiter in _NAMES:
        if delimiter not in sample:
            continue
        try:
            records = [
                record
                for record in islice(csv.reader(whole_lines, delimiter=delimiter, strict=True), _SAMPLE_RECORDS)
                if record
            ]
        except csv.Error:
            continue
        widths = {len(record) for record in records}
        if len(records) >= 2 and len(widths) == 1 and (width := widths.pop()) > best_width:
            # Prose contains commas too, but a table's fields are short and its lines do not end like sentences.
            if delimiter == "," and all(record[-1].rstrip().endswith((".", "!", "?", "{", ";")) for record in records):
                continue
            best, best_width = delimiter, width
    return best
