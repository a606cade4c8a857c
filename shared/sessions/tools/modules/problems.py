"""What is wrong with a file that somebody wrote: one line, with the file and the line to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

_MAX_CHARS = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of one file. `str()` is a line such as `agents/tools/refund.py:12: NameError: ...`."""

    path: str
    """From the folder's name on, such as `agents/tools/refund.py`."""
    line: int | None
    """Of the file, from 1; None: the fault is of the file as a whole."""
    text: str

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.text}"


def problem(folder: Path, file: Path, text: str, line: int | None = None) -> Problem:
    """A fault of a file in a folder. The text becomes one printable line of at most 300 characters."""
    return Problem(shown_path(folder, file), line, _one_line(text))


def shown_path(folder: Path, file: Path) -> str:
    """How a file in a folder is named to people."""
    return f"{folder.name}/{file.relative_to(folder).as_posix()}"


def of_exception(folder: Path, file: Path, exc: BaseException) -> Problem:
    """Where in the folder an exception came from, and what it says.

    file: named when no line of the folder is in the traceback.
    """
    if isinstance(exc, SyntaxError) and exc.filename and _is_in(folder, exc.filename):
        return problem(folder, Path(exc.filename), f"{type(exc).__name__}: {exc.msg}", exc.lineno)
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    for name, line in reversed(list(_lines(exc.__traceback__))):
        if _is_in(folder, name):
            return problem(folder, Path(name), text, line)
    return problem(folder, file, text)


def of_frame(folder: Path, file: Path, frame: FrameType | None, text: str) -> Problem:
    """A fault at the innermost line of the folder that a frame is in, or of the file."""
    while frame is not None:
        if _is_in(folder, frame.f_code.co_filename):
            return problem(folder, Path(frame.f_code.co_filename), text, frame.f_lineno)
        frame = frame.f_back
    return problem(folder, file, text)


def _lines(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


def _is_in(folder: Path, name: str) -> bool:
    return Path(name).is_relative_to(folder)


def _one_line(text: str) -> str:
    flat = re.sub(r"[^\S ]+|[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+", " ", text).strip()
    flat = re.sub(r" {2,}", " ", flat)
    return flat if len(flat) <= _MAX_CHARS else f"{flat[:_MAX_CHARS]}..."
