"""CSV: tables as text, with values separated by comma, semicolon, tab or bar.

Invariant: the file is read line by line; only the capped text and the column types are kept.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from shared.sessions.files.readers.analysis import (
    Analysis,
    Job,
    TextSink,
    malformed,
    too_large,
)
from shared.sessions.files.readers.columns import Columns, type_of
from shared.sessions.files.readers.encoding import Encoding, beginning, detect_encoding, lines, one_newline
from shared.sessions.models import FileKind

# The order decides between equals: commas occur in words and numbers, the others hardly ever do.
_NAMES = {"\t": "tab", "|": "bar", ";": "semicolon", ",": "comma"}
_SAMPLES_CHARS = (64_000, 1_000_000)  # the second one where a single field fills the first
_SAMPLE_RECORDS = 50
_MAX_RECORD_CHARS = 1_000_000
_MAX_OTHER_RECORDS = 0.25  # titles above a table, totals below it
_ENDS_OF_SENTENCES = (".", "!", "?", "{", ";", ":", "。")

csv.field_size_limit(_MAX_RECORD_CHARS)  # the module's own limit, 128 Ki characters, is below a long text in a field


@dataclass(frozen=True, slots=True)
class _Layout:
    """width: fields of a usual record. declared: the first line is `sep=` and the separator, as Excel writes it."""

    delimiter: str
    width: int
    is_declared: bool = False


class CsvStrategy:
    """Records with the same number of fields, two or more; a few others may stand above and below them."""

    def recognise(self, job: Job) -> bool:
        return _layout(job) is not None

    def analyze(self, job: Job) -> Analysis:
        encoding = detect_encoding(job) or Encoding("utf-8", is_guess=True)
        layout = _layout(job) or _Layout(",", 2)
        sink, columns, ragged, above = TextSink(job.limits.max_text_chars), Columns(job.limits), 0, 0
        try:
            source = _Lines(lines(job, encoding), sink)
            records = csv.reader(source, delimiter=layout.delimiter)
            if layout.is_declared:
                next(records, None)
            for record in records:
                source.record_chars = 0
                if not record:
                    continue  # an empty line
                if columns.rows == 0 and len(record) == 1 < layout.width:
                    above += 1  # a title
                    continue
                columns.add(record)
                ragged += len(record) != layout.width
        except csv.Error as exc:
            # An unclosed quote turns the rest of the file into one field.
            if "field larger" in str(exc):
                raise too_large("A field of the table is too long; is a quote not closed?") from exc
            raise malformed(f"The table cannot be read after row {columns.rows}.") from exc
        warnings = []
        if above:
            warnings.append(f"{above} {'line stands' if above == 1 else 'lines stand'} above the table.")
        if ragged:
            rows = "row has" if ragged == 1 else "rows have"
            warnings.append(f"{ragged} {rows} another number of fields than the table ({layout.width}).")
        if columns.has_totals():
            warnings.append("The last row looks like a row of totals; the columns' types leave it out.")
        name = _NAMES.get(layout.delimiter, layout.delimiter)
        facts = {"size_bytes": job.size_bytes, "encoding": encoding.name, "delimiter": name}
        return Analysis(
            FileKind.CSV,
            "text/tab-separated-values" if layout.delimiter == "\t" else "text/csv",
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


def _layout(job: Job) -> _Layout | None:
    if "csv" not in job.known:
        job.known["csv"] = _found_layout(job)
    found = job.known["csv"]
    return found if isinstance(found, _Layout) else None


def _found_layout(job: Job) -> _Layout | None:
    """The separator that makes the most regular records: whole ones first, then typed cells, then the rarer sign."""
    encoding = detect_encoding(job)
    if encoding is None:
        return None
    for size in _SAMPLES_CHARS:
        sample = beginning(job, encoding, size)
        is_cut = len(sample) == size
        found = _layout_of(sample, is_cut=is_cut)
        if found is not None or not is_cut or '"' not in sample:
            return found
    return None


def _layout_of(sample: str, *, is_cut: bool) -> _Layout | None:
    whole = one_newline(sample).split("\n")
    if is_cut and len(whole) > 1:
        whole.pop()
    declared = whole[0].strip().strip('"')
    if declared[:4].lower() == "sep=" and len(whole[0].strip('\r\n "')) <= 5:
        delimiter = declared[4:5] or ("\t" if whole[0].rstrip('"').endswith("\t") else "")
        if delimiter and delimiter not in '"\r\n':
            records = _records(whole[1:], delimiter, is_cut=is_cut)
            width = Counter(map(len, records)).most_common(1)[0][0] if records else 0
            return _Layout(delimiter, width, is_declared=True) if width else None
    best: tuple[tuple[bool, float], _Layout] | None = None
    for delimiter in _NAMES:
        if delimiter in sample:
            score = _score(_records(whole, delimiter, is_cut=is_cut), delimiter)
            if score is not None and (best is None or score[0] > best[0]):
                best = score
    return best[1] if best else None


def _records(whole: list[str], delimiter: str, *, is_cut: bool) -> list[list[str]]:
    """The first records that are not empty; in a cut sample the last one may be half."""
    reader = csv.reader((line + "\n" for line in whole), delimiter=delimiter)
    try:
        found = list(islice((record for record in reader if record), _SAMPLE_RECORDS + 1))
    except csv.Error:
        return []
    return found[:-1] if len(found) > _SAMPLE_RECORDS or (is_cut and len(found) > 2) else found


def _score(records: list[list[str]], delimiter: str) -> tuple[tuple[bool, float], _Layout] | None:
    """How much the records are a table; None if they are none."""
    widths = Counter(len(record) for record in records if len(record) > 1)
    if not widths:
        return None
    width, usual = widths.most_common(1)[0]
    rows = [record for record in records if len(record) == width]
    if usual < 2 or (width == 2 and all(not row[1].strip() for row in rows)):  # lines of code end with a semicolon
        return None
    # Prose contains commas too, but a table's fields are short and its lines do not end like sentences.
    if delimiter == "," and all(row[-1].rstrip().endswith(_ENDS_OF_SENTENCES) or _is_call(row) for row in rows):
        return None
    kinds = [[type_of(cell) for cell in row] for row in rows[1:]]
    typed = sum(kind not in ("text", "empty") for row in kinds for kind in row) / (len(kinds) * width)
    is_whole = usual == len(records)
    if not is_whole:
        first, last = records.index(rows[0]), len(records) - 1 - records[::-1].index(rows[-1])
        others = len(records) - usual
        is_framed = others == first + len(records) - 1 - last and others <= 4
        has_typed_column = any(
            all(row[column] not in ("text", "empty") for row in kinds[:-1] or kinds) for column in range(width)
        )
        if not (has_typed_column or (width >= 3 and usual >= 5)):
            return None
        if others > len(records) * _MAX_OTHER_RECORDS and not (is_framed and usual >= 3):
            return None
    return (is_whole, typed), _Layout(delimiter, width)


def _is_call(row: list[str]) -> bool:
    """Whether a bracket opens in one field and closes in another: the commas are those of program code."""
    return any(cell.count("(") != cell.count(")") for cell in row)
