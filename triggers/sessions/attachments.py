"""Files of a session: upload, inspect, download.

A file's own claims never decide how a browser treats it. Content is served with the media type that the analyser found,
never runs (`sandbox`, `nosniff`), and is a download unless it is a plain image.
"""

from __future__ import annotations

import re
from datetime import datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.files.names import content_disposition
from shared.sessions.models import Attachment, AttachmentDetail
from triggers.http.endpoints import Call, Operation, endpoint, file_stream, ok, page_of
from triggers.http.multipart import FILE_FIELD, receive_file
from triggers.http.parameters import PAGING, Parameter

bp = df.Blueprint()

_OF_SESSION = "/api/v1/sessions/{session_id}/attachments"
_ONE = "/api/v1/attachments/{attachment_id}"

SERVED_AS = (
    "application/json",
    "application/octet-stream",
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/tiff",
    "image/webp",
    "text/csv",
    "text/markdown",
    "text/plain",
    "text/tab-separated-values",
)
"""The media types that the analyser returns; no browser executes any of them."""

_ANY_FILE = "application/octet-stream"
_SHOWN_INLINE = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A browser may cache it, but access is checked each time.
    "Cache-Control": "private, no-cache",
}
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@endpoint(
    bp,
    Operation(
        "POST",
        _OF_SESSION,
        "add_attachment",
        "Upload a file to a session",
        "Files",
        201,
        headers=("Location",),
        actions=(Action.POST,),
        returns=AttachmentDetail,
        form={
            "type": "object",
            "required": [FILE_FIELD],
            "properties": {FILE_FIELD: {"type": "string", "format": "binary"}},
            "additionalProperties": False,
        },
        form_type="multipart/form-data",
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.MESSAGE_TOO_LONG,
            ErrorCode.VALIDATION_ERROR,
        ),
    ),
)
async def add_attachment(call: Call, _: None) -> Response:
    """The file's type is detected from its content. An unreadable file is kept with a warning. Put its id into
    `attachment_ids` of a message."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    attachments = call.services.attachments
    await attachments.admit(session_id, call.principal)
    with attachments.spool() as spool:
        name = await receive_file(call.request, spool, attachments.max_bytes)
        added = await attachments.add(session_id, call.principal, spool, name)
    return ok(added, 201, {"Location": f"/api/v1/attachments/{added.id}"})


@endpoint(
    bp,
    Operation(
        "GET",
        _OF_SESSION,
        "list_attachments",
        "The files of a session, oldest first",
        "Files",
        200,
        actions=(Action.READ,),
        returns=list[Attachment],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_attachments(call: Call, _: None) -> Response:
    """Uploaded files and files that tools made."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    items, cursor = await call.services.attachments.list_for(session_id, call.principal, call.page(datetime))
    return page_of(items, cursor)


@endpoint(
    bp,
    Operation(
        "GET",
        _ONE,
        "get_attachment",
        "One file",
        "Files",
        200,
        actions=(Action.READ,),
        returns=AttachmentDetail,
        errors=(ErrorCode.MESSAGE_NOT_FOUND,),
    ),
)
async def get_attachment(call: Call, _: None) -> Response:
    """Its media type, its properties, and the beginning of its text."""
    attachment_id = call.id("attachment_id", ErrorCode.MESSAGE_NOT_FOUND)
    return ok(await call.services.attachments.get(attachment_id, call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        f"{_ONE}/content",
        "get_attachment_content",
        "The content of a file",
        "Files",
        200,
        actions=(Action.READ,),
        media_type=_ANY_FILE,
        also_as=[kind for kind in SERVED_AS if kind != _ANY_FILE],
        is_file=True,
        headers=("ETag", "Content-Disposition", "Accept-Ranges"),
        parameters=(
            Parameter("Range", "One byte range; other ranges get the whole file", {"type": "string"}, place="header"),
            Parameter("If-None-Match", "The `ETag` of a cached copy", {"type": "string"}, place="header"),
            Parameter("If-Range", "The `ETag` that `Range` refers to", {"type": "string"}, place="header"),
        ),
        errors=(ErrorCode.MESSAGE_NOT_FOUND,),
        also={206: "The requested range", 304: "The cached copy is current"},
    ),
)
async def get_attachment_content(call: Call, _: None) -> Response:
    """Streamed from blob storage."""
    attachment_id = call.id("attachment_id", ErrorCode.MESSAGE_NOT_FOUND)
    stored = await call.services.attachments.open(attachment_id, call.principal)
    about = stored.record.attachment
    etag = f'"{about.sha256}"'
    headers = {**SAFE_HEADERS, "ETag": etag}
    asked = call.request.headers
    if etag in re.findall(r'"[^"]*"', asked.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    start, end = 0, about.size_bytes
    if asked.get("if-range", etag) == etag:
        start, end = _range(asked.get("range", ""), about.size_bytes)
    is_part = end - start < about.size_bytes
    media_type = about.media_type if about.media_type in SERVED_AS else _ANY_FILE
    headers |= {
        "Content-Disposition": content_disposition(about.name, inline=media_type in _SHOWN_INLINE),
        "Content-Length": str(end - start),
        "Accept-Ranges": "bytes",
    }
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{about.size_bytes}"
    pieces = stored.read(start, end - start if is_part else None)
    return await file_stream(call, pieces, status=206 if is_part else 200, media_type=media_type, headers=headers)


def _range(header: str, size_bytes: int) -> tuple[int, int]:
    """Start and end of the requested byte range; the whole file if the range is not satisfiable (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size_bytes
    if found[1]:
        start, end = int(found[1]), min(int(found[2] or size_bytes) + 1, size_bytes)
    else:
        start, end = max(0, size_bytes - int(found[2])), size_bytes
    return (start, end) if start < end else (0, size_bytes)
