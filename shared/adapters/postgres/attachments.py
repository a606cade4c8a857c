"""Attachments and loose blobs in PostgreSQL.

Implements `AttachmentRepository`, `AttachmentReader` and `LooseBlobRepository`.

Invariant: a session's limits are checked under its row lock, so that two files at once cannot exceed them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.adapters.postgres.listing import bounded, rows_of_page
from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.errors import ErrorCode, NotFound
from shared.rights import Action, require
from shared.sessions.files.attachments import MadeBy, NewAttachment, Usage, session_full
from shared.sessions.files.loose import LooseBlob
from shared.sessions.models import Attachment, FileKind
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.records.pages import Page

_S = load_queries("sessions/sessions")
_Q = load_queries("attachments")
_LIST = bounded(_Q["attachments_of_session"])


class PostgresAttachments:
    """`AttachmentRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def usage(self, session_id: str) -> Usage:
        row = await self._pool.fetch_one(_Q["usage"], {"session_id": session_id})
        return Usage(0, 0) if row is None else Usage(row["files"], row["bytes"])

    async def announce(self, session_id: str, blob_name: str, *, due_at: datetime) -> bool:
        row = await self._pool.fetch_one(
            _Q["announce_blob"], {"session_id": session_id, "blob_name": blob_name, "due_at": due_at}
        )
        return row is not None

    async def release(self, session_id: str, blob_name: str) -> None:
        await self._pool.execute(_Q["release_blob"], {"session_id": session_id, "blob_name": blob_name})

    async def insert(self, new: NewAttachment, *, max_files: int, max_bytes: int) -> AttachmentRecord | None:
        """Raises NotFound, InvalidInput."""
        key = {"session_id": new.session_id, "user_id": new.created_by}
        async with self._pool.transaction() as connection:
            session = await (await connection.execute(_S["lock_session_for_user"], key)).fetchone()
            require(None if session is None else session["access"], Action.POST)
            if new.made_by is not None:
                made = await connection.execute(_Q["attachment_of_call"], _made(new.session_id, new.made_by))
                earlier = await made.fetchone()
                if earlier is not None:
                    return _record(earlier)
            used = await (await connection.execute(_Q["usage"], key)).fetchone()
            assert used is not None  # an aggregate
            if used["files"] >= max_files or used["bytes"] + new.size_bytes > max_bytes:
                raise session_full()
            text = new.analysis.text
            values = {
                "session_id": new.session_id,
                "id": new.id,
                "created_by": new.created_by,
                "name": new.name,
                "kind": new.analysis.kind.value,
                "media_type": new.analysis.media_type,
                "size_bytes": new.size_bytes,
                "sha256": new.sha256,
                "blob_name": new.blob_name,
                "text": text,
                "text_chars": len(text or ""),
                "facts": json(dict(new.analysis.facts)),
                "warnings": list(new.analysis.warnings),
                "now": new.created_at,
            } | _made(new.session_id, new.made_by)
            if await (await connection.execute(_Q["insert_attachment"], values)).fetchone() is None:
                return None
        shown = values | {"facts": dict(new.analysis.facts), "created_at": new.created_at}
        return AttachmentRecord(_attachment(shown), new.blob_name, text)

    async def for_user(self, attachment_id: str, user_id: str, *, max_chars: int) -> AttachmentRecord:
        """Raises NotFound."""
        row = await self._pool.fetch_one(
            _Q["attachment_for_user"], {"id": attachment_id, "user_id": user_id, "max_chars": max_chars}
        )
        if row is None:
            # The contract has no code of its own for attachments: they are what messages hold.
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such attachment.")
        return _record(row)

    async def list_for(self, session_id: str, page: Page) -> list[AttachmentRecord]:
        after_at, after = page.after or (None, None)
        rows = await self._pool.fetch_all(
            _LIST,
            {"session_id": session_id, "after_at": after_at, "after": after, "limit": page.limit + 1},
        )
        return rows_of_page(rows, page, _record)

    async def some(self, session_id: str, ids: Sequence[str], *, max_chars: int) -> dict[str, AttachmentRecord]:
        rows = await self._pool.fetch_all(
            _Q["some_attachments"], {"session_id": session_id, "ids": list(ids), "max_chars": max_chars}
        )
        return {row["id"]: _record(row) for row in rows}

    async def part(self, session_id: str, attachment_id: str, *, start: int, chars: int) -> AttachmentRecord | None:
        row = await self._pool.fetch_one(
            _Q["attachment_part"],
            {"session_id": session_id, "id": attachment_id, "start": start + 1, "chars": chars},
        )
        return None if row is None else _record(row)

    async def of_call(self, session_id: str, made_by: MadeBy) -> AttachmentRecord | None:
        row = await self._pool.fetch_one(_Q["attachment_of_call"], _made(session_id, made_by))
        return None if row is None else _record(row)

    async def of_content(self, session_id: str, user_id: str, *, sha256: str, name: str) -> AttachmentRecord | None:
        values = {"session_id": session_id, "user_id": user_id, "sha256": sha256, "name": name}
        row = await self._pool.fetch_one(_Q["attachment_of_content"], values)
        return None if row is None else _record(row)


class PostgresLooseBlobs:
    """`LooseBlobRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def claim(self, *, now: datetime, limit: int, session_id: str | None = None) -> list[LooseBlob]:
        rows = await self._pool.fetch_all(
            _Q["claim_loose_blobs"], {"now": now, "limit": limit, "session_id": session_id}
        )
        return [LooseBlob(row["blob_name"], row["session_id"], row["is_used"]) for row in rows]

    async def forget(self, blobs: Sequence[LooseBlob]) -> None:
        if blobs:
            await self._pool.execute(
                _Q["forget_loose_blobs"],
                {"names": [blob.blob_name for blob in blobs], "sessions": [blob.session_id for blob in blobs]},
            )

    async def remain(self, session_id: str) -> bool:
        row = await self._pool.fetch_one(_Q["has_loose_blobs"], {"session_id": session_id})
        return row is not None and bool(row["found"])


def _made(session_id: str, made_by: MadeBy | None) -> dict[str, object]:
    tool_call_id, number = (None, 0) if made_by is None else made_by
    return {"session_id": session_id, "tool_call_id": tool_call_id, "tool_call_file": number}


def _record(row: Row) -> AttachmentRecord:
    return AttachmentRecord(_attachment(row), row["blob_name"], row["text"])


def _attachment(row: Row) -> Attachment:
    return Attachment(
        id=row["id"],
        session_id=row["session_id"],
        name=row["name"],
        kind=FileKind(row["kind"]),
        media_type=row["media_type"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        text_chars=row["text_chars"],
        facts=row["facts"],
        warnings=row["warnings"],
        created_by=row["created_by"],
        created_at=row["created_at"],
    )
