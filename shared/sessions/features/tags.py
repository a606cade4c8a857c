"""TagService: a caller's list of tags, and adding tags to sessions and removing them.

A session's tags are plain names; they need not be in anyone's list. Deleting a tag removes it from the caller's list;
sessions keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from shared.errors import Conflict, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.principal import Principal
from shared.sessions.features.models import MAX_SESSION_TAGS, NewTag, NewTagName, Tag
from shared.sessions.features.presets import SYSTEM_TAGS
from shared.sessions.models import Session, SessionStatus
from shared.sessions.models import Tag as AnyTagName
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.sessions import SessionRecord

MAX_OWN_TAGS = 200

_NEW_NAME = TypeAdapter[str](NewTagName)
_ANY_NAME = TypeAdapter[str](AnyTagName)
_PRESETS = frozenset(tag.name for tag in SYSTEM_TAGS)


class TagRepository(Protocol):
    async def own(self, user_id: str, *, limit: int) -> list[Tag]:
        """By name."""
        ...

    async def add(self, tag: Tag, user_id: str, *, limit: int) -> bool:
        """False when the user has `limit` tags already. Raises Conflict when the tag exists."""
        ...

    async def delete(self, user_id: str, name: str) -> Tag | None:
        """Returns the deleted tag; None when it does not exist."""
        ...


class SessionReviser(Protocol):
    async def revise(
        self, session_id: str, user_id: str, revise: Callable[[Session], Session], *, now: datetime
    ) -> SessionRecord:
        """Apply `revise` to the session under its row lock, and store the result if it differs.

        Raises NotFound for users who may not write, and what `revise` raises.
        """
        ...


class TagService:
    """A caller's tags. Tagging a session requires its owner, or a participant with write access."""

    def __init__(self, tags: TagRepository, sessions: SessionReviser) -> None:
        self._tags = tags
        self._sessions = sessions

    async def list_for(self, principal: Principal) -> list[Tag]:
        """The presets, then the caller's own by name."""
        own = await self._tags.own(principal.user_id, limit=MAX_OWN_TAGS)
        return [*SYSTEM_TAGS, *(tag for tag in own if tag.name not in _PRESETS)]

    async def create(self, body: NewTag, principal: Principal) -> Tag:
        """Raises Conflict for a name that is taken, InvalidInput at the limit."""
        if body.name in _PRESETS:
            raise Conflict(ErrorCode.CONFLICT, f"The tag {body.name!r} is built in.")
        tag = Tag(system=False, created_at=datetime.now(UTC), **body.model_dump())
        if not await self._tags.add(tag, principal.user_id, limit=MAX_OWN_TAGS):
            message = f"You can have at most {MAX_OWN_TAGS} tags; delete one first."
            raise InvalidInput(ErrorCode.VALIDATION_ERROR, message)
        return tag

    async def delete(self, name: str, principal: Principal) -> Tag:
        """Delete one of the caller's own tags; returns it. Raises NotFound, Conflict for a preset."""
        checked = _checked(name, _ANY_NAME)
        # The user's own tag first: a preset added later may have the same name.
        deleted = await self._tags.delete(principal.user_id, checked)
        if deleted is not None:
            return deleted
        if checked in _PRESETS:
            raise Conflict(ErrorCode.CONFLICT, f"The tag {checked!r} is built in and cannot be deleted.")
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, "No such tag.")

    async def put_on(self, session_id: str, name: str, principal: Principal) -> Session:
        """Add a tag to a session. Idempotent. Raises NotFound, Gone, InvalidState, InvalidInput."""
        return await self._revise(session_id, _checked(name, _NEW_NAME), principal, _with)

    async def take_off(self, session_id: str, name: str, principal: Principal) -> Session:
        """Remove a tag from a session. Idempotent. Raises NotFound, Gone, InvalidState, InvalidInput."""
        return await self._revise(session_id, _checked(name, _ANY_NAME), principal, _without)

    async def _revise(
        self, session_id: str, name: str, principal: Principal, change: Callable[[Session, str], Session]
    ) -> Session:
        now = datetime.now(UTC)

        def revised(session: Session) -> Session:
            refuse_expired(session, now)
            if session.status is SessionStatus.ENDED:
                raise InvalidState("A session that is ENDED cannot be changed.")
            return change(session, name)

        return (await self._sessions.revise(session_id, principal.user_id, revised, now=now)).session


def _with(session: Session, name: str) -> Session:
    if name in session.tags:
        return session
    if len(session.tags) >= MAX_SESSION_TAGS:
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"A session can have at most {MAX_SESSION_TAGS} tags.")
    return session.model_copy(update={"tags": [*session.tags, name]})


def _without(session: Session, name: str) -> Session:
    return session.model_copy(update={"tags": [tag for tag in session.tags if tag != name]})


def _checked(name: str, kind: TypeAdapter[str]) -> str:
    try:
        return kind.validate_python(name)
    except ValidationError as exc:
        message = exc.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            f"This is not a valid tag name: {message}.",
            errors=[{"field": "name", "message": message}],
        ) from None
