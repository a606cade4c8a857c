"""Buffer for an uploaded file: collects its pieces, counts and hashes them, and spills to disk when it grows large.

Invariant: it holds at most `max_bytes`; a piece that would exceed the limit is refused, not stored.
"""

from __future__ import annotations

import hashlib
import tempfile
from types import TracebackType
from typing import BinaryIO, Self, cast

from shared.errors import ErrorCode, InvalidInput

_IN_MEMORY_BYTES = 256 * 1024


class Spool:
    """A temporary file that is deleted at the end of its `with` block."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  # closed with the spool
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Raises InvalidInput (MESSAGE_TOO_LONG)."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._max_bytes:
            raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A file may have {self._max_bytes} bytes.")
        self._hash.update(piece)
        self._file.write(piece)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def file(self) -> BinaryIO:
        """Seekable; owned by the spool."""
        return cast(BinaryIO, self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
