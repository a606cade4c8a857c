"""Plain text, program code and Markdown.

Invariant: the whole file is read once, in pieces, and only the capped text is kept. Program code is text; its language
is not detected.
"""

from __future__ import annotations

import re
from itertools import islice

from shared.sessions.files.readers.analysis import Analysis, Job, TextSink
from shared.sessions.files.readers.encoding import Encoding, beginning, detect_encoding, pieces
from shared.sessions.models import FileKind

_MARKDOWN_SIGNS = (
    re.compile(r"^#{1,6} \S", re.MULTILINE),  # heading
    re.compile(r"^(```|~~~)", re.MULTILINE),  # fenced code
    re.compile(r"^[ \t]{0,20}[-*+] \S", re.MULTILINE),  # list
    re.compile(r"^[ \t]{0,20}\d{1,9}\. \S", re.MULTILINE),
    re.compile(r"!?\[[^\]\n]{1,200}\]\([^)\n]{1,500}\)"),  # link or image
    re.compile(r"\*\*[^*\n]{1,200}\*\*"),  # strong
    re.compile(r"^\|? {0,9}:?-{3,200}:? {0,9}\|", re.MULTILINE),  # table
    re.compile(r"^> \S", re.MULTILINE),
)
_CODE_SIGNS = re.compile(r"\A#!|^(import |from \w+ import |#include|package |using |def \w+\(|class \w+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} [^\n]{1,200}", re.MULTILINE)
_SAMPLE_CHARS = 20_000
_MAX_HEADINGS = 50


class TextStrategy:
    def recognise(self, job: Job) -> bool:
        return detect_encoding(job) is not None

    def analyze(self, job: Job) -> Analysis:
        return read_plain(job, FileKind.TEXT, "text/plain")


class MarkdownStrategy:
    """Text with at least two different Markdown constructs, and no program code outside code fences."""

    def recognise(self, job: Job) -> bool:
        encoding = detect_encoding(job)
        if encoding is None:
            return False
        sample = beginning(job, encoding, _SAMPLE_CHARS)
        outside_fences = re.sub(r"^(```|~~~).*?^\1", r"\1", sample, flags=re.MULTILINE | re.DOTALL)
        if _CODE_SIGNS.search(outside_fences):
            return False
        return sum(bool(sign.search(sample)) for sign in _MARKDOWN_SIGNS) >= 2

    def analyze(self, job: Job) -> Analysis:
        analysis = read_plain(job, FileKind.MARKDOWN, "text/markdown")
        found = islice(_HEADING.finditer(analysis.text or ""), _MAX_HEADINGS)
        headings = [match[0].strip("# ") for match in found]
        return Analysis(
            analysis.kind,
            analysis.media_type,
            analysis.text,
            {**analysis.facts, "headings": headings},
            analysis.warnings,
        )


def read_plain(job: Job, kind: FileKind, media_type: str) -> Analysis:
    """The text unchanged."""
    encoding = detect_encoding(job) or Encoding("utf-8", is_guess=True)
    sink = TextSink(job.limits.max_text_chars)
    lines, chars, last = 0, 0, ""
    for piece in pieces(job, encoding):
        # CR LF is one end of a line, also when a piece ends between the two.
        ends = piece.count("\n") + piece.count("\r") - piece.count("\r\n")
        lines += ends - (last == "\r" and piece.startswith("\n"))
        chars += len(piece)
        last = piece[-1:] or last
        sink.add(piece)
    facts = {
        "size_bytes": job.size_bytes,
        "encoding": encoding.name,
        "characters": chars,
        "lines": lines + (last not in ("\n", "\r")),
    }
    return Analysis(kind, media_type, sink.text(), facts, (*encoding.warnings(), *sink.warnings()))
