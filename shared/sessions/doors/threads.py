"""SessionThreads: the session of an id that a front end made up for a conversation.

Invariant: a thread is its user's own. Two users who use the same one have a session each, and neither learns of the
other's: a session gets its thread's id only where nobody can have guessed it (a UUID).
"""

from __future__ import annotations

import re
from typing import Protocol

from shared.errors import ErrorCode, InvalidInput, no_such_session
from shared.principal import Principal
from shared.sessions.models import NewSession
from shared.sessions.service import SessionService

MAX_THREAD_CHARS = 255

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ThreadRepository(Protocol):
    async def session_of(self, thread: str, user_id: str) -> str | None:
        """The session of a user's thread; else the session with that id, if it is theirs, or if they take part in it
        and its id is a UUID."""
        ...


class SessionThreads:
    """Finds the sessions of threads, and makes them."""

    def __init__(self, threads: ThreadRepository, sessions: SessionService) -> None:
        self._threads = threads
        self._sessions = sessions

    async def find(self, thread: str, principal: Principal) -> str:
        """The id of the caller's session of a thread, or of a session by its own id. Raises NotFound."""
        found = await self._threads.session_of(thread, principal.user_id) if is_thread(thread) else None
        if found is None:
            raise no_such_session()
        return found

    async def open(self, thread: str, principal: Principal, body: NewSession) -> tuple[str, list[bytes]]:
        """As `find`, or the id of a new session, and the events to send. body: of the new one; its `id` is not used.

        Raises InvalidInput, Conflict.
        """
        if not is_thread(thread):
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                f"The id of a conversation has 1 to {MAX_THREAD_CHARS} printable characters.",
                errors=[{"field": "id", "message": f"1 to {MAX_THREAD_CHARS} printable characters"}],
            )
        found = await self._threads.session_of(thread, principal.user_id)
        if found is not None:
            return found, []
        made = body.model_copy(update={"id": thread if _UUID.fullmatch(thread) else None})
        session, _, messages = await self._sessions.create(made, principal, idempotency_key=None, thread=thread)
        return session.id, messages


def is_thread(thread: str) -> bool:
    """Whether a text can be an id of a conversation: 1 to MAX_THREAD_CHARS printable characters."""
    return 1 <= len(thread) <= MAX_THREAD_CHARS and thread.isprintable()
