"""Files in what a client posts: bytes inside the body, or a file that the session has already.

Invariant: nothing is fetched. An address of anywhere else is refused by name.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from shared.errors import ErrorCode, InvalidInput
from shared.ids import is_valid_id

MAX_FILES = 16
"""Of one message, as on the main route."""
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a request that may hold files: what larger files take is uploaded to the session."""
_STORED = re.compile(r"/api/v1/attachments/([^/?#]{1,64})/content")
_MAX_NAME_CHARS = 255


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file of a message. field: where it stands in the body."""

    field: str
    name: str | None = None
    data: bytes | None = None
    attachment_id: str | None = None
    """Of one that the session has, in place of bytes."""


def content_url(attachment_id: str) -> str:
    """Where a stored file is read; `file_of_url` takes it back."""
    return f"/api/v1/attachments/{attachment_id}/content"


def file_of_url(url: object, field: str, name: object = None) -> SentFile:
    """A file of a data URL, or of a stored one. Raises InvalidInput."""
    if not isinstance(url, str):
        raise _refused(field, "must be text")
    stored = _STORED.fullmatch(url)
    if stored is not None and is_valid_id(stored[1]):
        return SentFile(field, attachment_id=stored[1])
    head, comma, body = url.partition(",")
    if head[:5].lower() != "data:" or not comma:
        raise _refused(field, "is no data URL; nothing is fetched from an address")
    if head.lower().endswith(";base64"):
        return file_of_base64(body, field, name)
    return SentFile(field, _named(name, field), unquote_to_bytes(body))


def file_of_base64(text: object, field: str, name: object = None) -> SentFile:
    """Raises InvalidInput."""
    if not isinstance(text, str):
        raise _refused(field, "must be text")
    try:
        return SentFile(field, _named(name, field), base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise _refused(field, "is not base64") from None


def check_number(files: Sequence[SentFile]) -> None:
    """Raises InvalidInput."""
    if len(files) > MAX_FILES:
        raise _refused(files[MAX_FILES].field, f"is one of more than {MAX_FILES} files")


def _named(name: object, field: str) -> str | None:
    if name is None or name == "":
        return None
    if not isinstance(name, str) or len(name) > _MAX_NAME_CHARS:
        raise _refused(field, f"has a name that is not text of at most {_MAX_NAME_CHARS} characters")
    return name


def _refused(field: str, why: str) -> InvalidInput:
    return InvalidInput(ErrorCode.VALIDATION_ERROR, f"{field}: {why}.", errors=[{"field": field, "message": why}])
