"""Word documents: the text of the body with headings, lists and tables.

Invariant: only the document body is read, as a stream; images, macros, links and embedded objects are never opened.
"""

from __future__ import annotations

import re

from shared.sessions.files.readers.analysis import Analysis, Job, TextSink
from shared.sessions.files.readers.zipped import Archive, holds_part
from shared.sessions.models import FileKind

_BODY = "word/document.xml"
_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_HEADING = re.compile(r"heading\s?([1-6])", re.IGNORECASE)


class DocxStrategy:
    def recognise(self, job: Job) -> bool:
        return holds_part(job, _BODY)

    def analyze(self, job: Job) -> Analysis:
        archive = Archive(job)
        body = _Body(TextSink(job.limits.max_text_chars))
        archive.parse(_BODY, start=body.start, end=body.end, data=body.data)
        warnings = body.sink.warnings()
        if body.images:
            warnings.append(f"{body.images} images or objects were not read.")
        if any(name.endswith("vbaProject.bin") for name in archive.names):
            warnings.append("The document holds macros; they were not read.")
        facts = {
            "size_bytes": job.size_bytes,
            "paragraphs": body.paragraphs,
            "tables": body.tables,
            "characters": body.chars,
        }
        return Analysis(FileKind.DOCX, _MEDIA_TYPE, body.sink.text(), facts, tuple(warnings))


class _Body:
    """Callbacks of one pass. A paragraph becomes a line, and a table row becomes one line with tabs."""

    def __init__(self, sink: TextSink) -> None:
        self.sink = sink
        self.paragraphs = self.tables = self.images = self.chars = 0
        self._in_text = False
        self._row_depth = 0
        self._prefix = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "t":
            self._in_text = True
        elif tag == "p":
            self.paragraphs += 1
            self._prefix = ""
        elif tag == "pStyle":
            heading = _HEADING.fullmatch(attributes.get("val", ""))
            self._prefix = "#" * int(heading[1]) + " " if heading else ""
        elif tag == "numPr":
            self._prefix = self._prefix or "- "
        elif tag == "tab":
            self.sink.add("\t")
        elif tag in ("br", "cr"):
            self.sink.add("\n")
        elif tag == "tbl":
            self.tables += 1
        elif tag == "tr":
            self._row_depth += 1
        elif tag in ("drawing", "pict", "object"):
            self.images += 1

    def end(self, tag: str) -> None:
        if tag == "t":
            self._in_text = False
        elif tag == "p":
            self.sink.add(" " if self._row_depth else "\n")
        elif tag == "tc":
            self.sink.add("\t")
        elif tag == "tr":
            self._row_depth -= 1
            self.sink.add("\n")

    def data(self, text: str) -> None:
        if not self._in_text:
            return
        if self._prefix:
            self.sink.add(self._prefix)
            self._prefix = ""
        self.chars += len(text)
        self.sink.add(text)
