"""Finds out what an uploaded file is and what it says.

`FileAnalyzer` asks its strategies in order, and the first that recognises the content reads it;
a new kind of file is one more strategy. Invariant: the name of a file and what its sender claims
about it are never asked, and no file, whatever it holds, costs more than `Limits` allow.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import BinaryIO

from shared.sessions.files.readers.analysis import (
    Analysis,
    Deadline,
    Job,
    Limits,
    Strategy,
    malformed,
    too_large,
)
from shared.sessions.files.readers.csv import CsvStrategy
from shared.sessions.files.readers.docx import DocxStrategy
from shared.sessions.files.readers.image import ImageStrategy
from shared.sessions.files.readers.json import JsonStrategy
from shared.sessions.files.readers.pdf import PdfStrategy
from shared.sessions.files.readers.text import MarkdownStrategy, TextStrategy
from shared.sessions.files.readers.xlsx import XlsxStrategy
from shared.sessions.models import FileKind

_DEFAULT_STRATEGIES: tuple[Strategy, ...] = (
    # Signatures first; then what is text, from the strictest grammar to none.
    PdfStrategy(),
    ImageStrategy(),
    XlsxStrategy(),
    DocxStrategy(),
    JsonStrategy(),
    CsvStrategy(),
    MarkdownStrategy(),
    TextStrategy(),
)


class FileAnalyzer:
    """Chooses a strategy by content and runs it within limits. Holds no state between files."""

    def __init__(self, limits: Limits | None = None, strategies: Sequence[Strategy] = _DEFAULT_STRATEGIES) -> None:
        self._limits = limits or Limits()
        self._strategies = tuple(strategies)

    def analyze(self, file: BinaryIO) -> Analysis:
        """Read a seekable binary file (a spooled temporary file, say) that stays open and the caller's.

        Blocks for up to `timeout_s`: call it in a thread, or `analyze_async`.
        Raises AnalysisError. A kind nobody reads is not an error: it is `FileKind.BINARY` with a warning.
        """
        limits = self._limits
        size_bytes = file.seek(0, io.SEEK_END)
        if size_bytes > limits.max_bytes:
            raise too_large(f"The file has {size_bytes} bytes; at most {limits.max_bytes} are allowed.")
        if size_bytes == 0:
            raise malformed("The file is empty.")
        job = Job(file, size_bytes, limits, Deadline(limits.timeout_s))
        for strategy in self._strategies:
            job.deadline.check()
            if strategy.recognise(job):
                return strategy.analyze(job)
        return Analysis(
            FileKind.BINARY,
            "application/octet-stream",
            facts={"size_bytes": size_bytes},
            warnings=("The kind of this file is unknown; its content was not read.",),
        )

    async def analyze_async(self, file: BinaryIO) -> Analysis:
        """`analyze` in a thread, so that the event loop goes on; ends by its own deadline."""
        return await asyncio.to_thread(self.analyze, file)
