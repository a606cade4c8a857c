"""The result of analysing a file, its limits and its errors.

Invariant: every strategy works within one `Limits` and one `Deadline`. A file that would exceed them fails with an
`AnalysisError` and a message for the user, before the cost arises. Only extracted text is cut instead, with a warning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import FileKind


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one analysis. The defaults fit a worker with little memory."""

    max_bytes: int = 25 * 1024 * 1024  # the file itself
    max_text_chars: int = 200_000  # extracted text; beyond it the text is cut with a warning
    max_pages: int = 1_000  # of a PDF
    max_pixels: int = 60_000_000  # width x height; a decoded pixel costs its reader 4 bytes
    max_rows: int = 200_000  # of all sheets together
    max_columns: int = 2_000
    max_shared_chars: int = 8_000_000  # a workbook's shared texts, which are all in memory at once
    max_zip_entries: int = 4_000
    max_unpacked_bytes: int = 96 * 1024 * 1024  # of an office file: both its claimed and its actual size
    max_compression_ratio: int = 250  # deflate's maximum is about 1030; text documents stay below 60
    max_xml_depth: int = 200
    max_xml_names: int = 2_000  # different names of elements and attributes: the parser stores each
    max_json_depth: int = 128
    max_json_values: int = 300_000  # each costs some 60 bytes or more once parsed
    max_child_memory_bytes: int = 512 * 1024 * 1024  # address space of the process that reads a PDF
    timeout_s: float = 20.0  # wall clock of the whole analysis


@dataclass(frozen=True, slots=True)
class Analysis:
    """The content of a file.

    facts: JSON-safe, by kind: encoding, lines, pages, sheets, rows and columns with types, width and height.
    text: None if the kind has none (image, binary); may be empty (a scanned PDF).
    warnings: sentences for the user and the model about what was cut, guessed or left out.
    """

    kind: FileKind
    media_type: str
    text: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class AnalysisError(InvalidInput):
    """The file is damaged, too large or would unpack to too much; `safe_message` says which."""


def malformed(message: str) -> AnalysisError:
    return AnalysisError(ErrorCode.VALIDATION_ERROR, message)


def too_large(message: str) -> AnalysisError:
    return AnalysisError(ErrorCode.MESSAGE_TOO_LONG, message)


class Stop:
    """Ends an analysis early, from another thread: its caller has left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self.is_set = False

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            for action in self._actions:
                action()

    @contextmanager
    def calls(self, action: Callable[[], None]) -> Iterator[None]:
        """Call `action` when set meanwhile, or now if set before. It must not block."""
        with self._lock:
            self._actions.append(action)
            if self.is_set:
                action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)


class Deadline:
    """The time by which an analysis must end. A thread cannot be killed, so loops check it."""

    def __init__(
        self, timeout_s: float, *, stop: Stop | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._at = clock() + timeout_s
        self.stop = stop or Stop()

    def check(self) -> None:
        """Raise AnalysisError once the time is over, or the analysis stopped."""
        if self.stop.is_set or self._clock() >= self._at:
            raise self.expired()

    def remaining_s(self) -> float:
        self.check()
        return self._at - self._clock()

    def expired(self) -> AnalysisError:
        return too_large(f"Reading the file takes longer than {self._timeout_s:g} s.")


class TextSink:
    """Collects text up to a number of characters and discards the rest."""

    def __init__(self, max_chars: int) -> None:
        self._room = max_chars
        self._max_chars = max_chars
        self._parts: list[str] = []
        self.is_cut = False

    @property
    def room(self) -> int:
        """How many characters are still kept."""
        return self._room

    def add(self, text: str) -> None:
        if len(text) > self._room:
            text = text[: self._room]
            self.is_cut = True
        if text:
            self._room -= len(text)
            self._parts.append(text)

    def text(self) -> str:
        # PostgreSQL's text type refuses NUL.
        return "".join(self._parts).replace("\x00", "")

    def warnings(self) -> list[str]:
        return [f"Only the first {self._max_chars} characters of text were kept."] if self.is_cut else []


@dataclass(frozen=True, slots=True)
class Job:
    """One file under analysis. file: seekable; size_bytes: measured, not claimed.

    known: what one strategy found out about the whole file and the next would ask again.
    """

    file: BinaryIO
    size_bytes: int
    limits: Limits
    deadline: Deadline
    known: dict[str, object] = field(default_factory=dict)

    def head(self, size: int) -> bytes:
        """The first `size` bytes; leaves the position after them."""
        self.file.seek(0)
        return self.file.read(size)


class Strategy(Protocol):
    """Reads one family of files."""

    def recognise(self, job: Job) -> bool:
        """Whether the content (never the name) is of this family. Reads little."""
        ...

    def analyze(self, job: Job) -> Analysis:
        """Raises AnalysisError. The file position is undefined before and after."""
        ...
