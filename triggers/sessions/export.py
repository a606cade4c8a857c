"""A conversation as a file to save."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.files.names import content_disposition
from shared.sessions.files.writers.content import FileFormat
from triggers.http.endpoints import Call, Operation, endpoint, file_stream
from triggers.http.parameters import Parameter
from triggers.sessions.attachments import SAFE_HEADERS

bp = df.Blueprint()

_ANY_FILE = "application/octet-stream"


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/export",
        "export_session",
        "The conversation as a file",
        "Files",
        200,
        actions=(Action.READ,),
        media_type=_ANY_FILE,
        also_as=tuple(kind.media_type.partition(";")[0] for kind in FileFormat),
        is_file=True,
        headers=("Content-Disposition",),
        parameters=(Parameter("format", "json by default", values=FileFormat),),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_TOO_LONG),
    ),
)
async def export_session(call: Call, _: None) -> Response:
    """The active branch, oldest message first. Streamed, except pdf and docx, which limit a conversation's length.

    Under the media type of its format; for a caller who accepts only `application/octet-stream`, under that.
    """
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    file_format = call.query_as("format", FileFormat) or FileFormat.JSON
    export = await call.services.exports.export(session_id, call.principal, file_format)
    return await file_stream(
        call,
        export.pieces,
        media_type=_ANY_FILE if call.request.headers.get("accept", "").strip() == _ANY_FILE else export.media_type,
        headers={
            **SAFE_HEADERS,
            "Cache-Control": "no-store",
            "Content-Disposition": content_disposition(export.name),
        },
    )
