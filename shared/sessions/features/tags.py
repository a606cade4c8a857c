"""TagService: the tags a caller may choose from, and putting them on sessions and off again.

A session's tags are plain names, so one that is in no list is fine too. Deleting a tag of one's own removes it from
the choice; sessions keep what they carry.
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
        """False when there are `limit` already. Raises Conflict when it exists."""
        ...

    async def delete(self, user_id: str, name: str) -> Tag | None:
        """What was deleted."""
        ...


class SessionReviser(Protocol):
    async def revise(
        self, session_id: str, user_id: str, revise: Callable[[Session], Session], *, now: datetime
    ) -> SessionRecord:
        """Store what `revise` makes of the session, alone with its row; nothing when nothing changes.

        Raises NotFound for those who may not write, and what `revise` raises.
        """
        ...


class TagService:
    """A caller's tags. Writing to a session takes its owner, or a participant who may write."""

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
            raise Conflict(ErrorCode.CONFLICT, f"The tag {body.name!r} comes with the system.")
        tag = Tag(system=False, created_at=datetime.now(UTC), **body.model_dump())
        if not await self._tags.add(tag, principal.user_id, limit=MAX_OWN_TAGS):
            raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"A person may have {MAX_OWN_TAGS} tags; delete one first.")
        return tag

    async def delete(self, name: str, principal: Principal) -> Tag:
        """Delete a tag of the caller's own; returns what it was. Raises NotFound, Conflict for a preset."""
        checked = _checked(name, _ANY_NAME)
        # First the own one: a preset that came later may have the same name.
        deleted = await self._tags.delete(principal.user_id, checked)
        if deleted is not None:
            return deleted
        if checked in _PRESETS:
            raise Conflict(ErrorCode.CONFLICT, f"The tag {checked!r} comes with the system and cannot be deleted.")
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, "No such tag.")

    async def put_on(self, session_id: str, name: str, principal: Principal) -> Session:
        """Put a tag on a session; harmless when it is there. Raises NotFound, Gone, InvalidState, InvalidInput."""
        return await self._revise(session_id, _checked(name, _NEW_NAME), principal, _with)

    async def take_off(self, session_id: str, name: str, principal: Principal) -> Session:
        """Take a tag off; harmless when it is not there. Raises NotFound, Gone, InvalidState, InvalidInput."""
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
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"A session may carry {MAX_SESSION_TAGS} tags.")
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
            f"This is no name for a tag: {message}.",
            errors=[{"field": "name", "message": message}],
        ) from None
