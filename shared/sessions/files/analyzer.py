"""Detects the kind of an uploaded file and extracts its text and facts.

`FileAnalyzer` tries its strategies in order; the first that recognises the content reads the file. A new kind of file
is a new strategy. Invariant: the file's name and the sender's claims about it are never used, and no file costs more
than `Limits` allow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

from shared.sessions.files.readers.analysis import (
    Analysis,
    Deadline,
    Job,
    Limits,
    Stop,
    Strategy,
    malformed,
    too_large,
)
from shared.sessions.files.readers.csv import CsvStrategy
from shared.sessions.files.readers.docx import DocxStrategy
from shared.sessions.files.readers.eml import EmlStrategy
from shared.sessions.files.readers.image import ImageStrategy
from shared.sessions.files.readers.json import JsonStrategy
from shared.sessions.files.readers.named import NamedStrategy
from shared.sessions.files.readers.pdf import PdfStrategy
from shared.sessions.files.readers.pptx import PptxStrategy
from shared.sessions.files.readers.text import MarkdownStrategy, TextStrategy
from shared.sessions.files.readers.xlsx import XlsxStrategy
from shared.sessions.models import FileKind
from shared.work_pool import PoolLimits, WorkPool

ANALYSES = PoolLimits(threads=2, per_user=1, waiting=64, waiting_per_user=8, wait_s=30, retry_after_s=10)
"""Two at once: with `Limits.max_child_memory_bytes` each, they fit an instance of 2 GB beside the app
(`devtools/sizing/memory.py`)."""

_DEFAULT_STRATEGIES: tuple[Strategy, ...] = (
    # Binary signatures first, then text formats from the strictest grammar to none.
    PdfStrategy(),
    ImageStrategy(),
    XlsxStrategy(),
    DocxStrategy(),
    PptxStrategy(),
    NamedStrategy(),
    EmlStrategy(),
    JsonStrategy(),
    CsvStrategy(),
    MarkdownStrategy(),
    TextStrategy(),
)


class FileAnalyzer:
    """Chooses a strategy by content and runs it within limits."""

    def __init__(
        self,
        limits: Limits | None = None,
        strategies: Sequence[Strategy] = _DEFAULT_STRATEGIES,
        *,
        pool: WorkPool | None = None,
    ) -> None:
        """pool: where `analyze_async` runs; None: a pool of its own."""
        self._limits = limits or Limits()
        self._strategies = tuple(strategies)
        self._pool = pool or WorkPool("files", ANALYSES)

    def admit(self, user_id: str) -> None:
        """Refuse a file of this user before its bytes are read. Raises Transient (RATE_LIMITED)."""
        self._pool.check(user_id)

    def analyze(self, file: BinaryIO, stop: Stop | None = None) -> Analysis:
        """Analyse a seekable binary file, such as a spooled temporary file. The file stays open.

        Blocks for up to `timeout_s`: call it in a thread, or call `analyze_async`. An unknown kind is not an error, but
        `FileKind.BINARY` with a warning. stop: ends it early. Raises AnalysisError.
        """
        limits = self._limits
        size_bytes = file.seek(0, io.SEEK_END)
        if size_bytes > limits.max_bytes:
            raise too_large(f"The file has {size_bytes} bytes; at most {limits.max_bytes} are allowed.")
        if size_bytes == 0:
            raise malformed("The file is empty.")
        job = Job(file, size_bytes, limits, Deadline(limits.timeout_s, stop=stop))
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

    async def analyze_async(self, file: BinaryIO, user_id: str) -> Analysis:
        """`analyze` in a thread of the pool. When the caller is cancelled, the analysis ends early.

        Also raises Transient (RATE_LIMITED).
        """
        stop = Stop()
        return await self._pool.run(user_id, lambda: self.analyze(file, stop), stop=stop.set)
