"""TriggerService: a user's triggers, and firing them.

Invariant: a fire with a key that came before posts nothing new. Nothing that comes from outside is posted unless the
trigger takes it from there and, for a webhook, its signature is verified. What comes with a fire is data that nobody
vouches for.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from shared.errors import AppError, BudgetExceeded, Conflict, ErrorCode, Gone, InvalidInput, InvalidState, NotFound
from shared.ids import is_valid_id, new_id
from shared.principal import Principal
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.models import NewMessage, NewSession
from shared.sessions.posting.content import Payload
from shared.sessions.posting.models import Posted
from shared.sessions.service import SessionService
from shared.sessions.unattended.models import NewTrigger, Trigger, TriggerSource, TriggerStatus
from shared.sessions.unattended.running import stops, unattended
from shared.sessions.unattended.schedules import ReadableSessions, check_target
from shared.sessions.unattended.webhooks import HookSecrets, SecretState

MAX_OWN_TRIGGERS = 100
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """A trigger with what is not on the wire. uid: never changes, and is given to no other trigger.

    trigger: without what the service adds, its address and its secret.
    """

    uid: str
    owner_id: str
    trigger: Trigger
    secret: SecretState


@dataclass(frozen=True, slots=True)
class FiredTrigger:
    """A posted fire. messages: events to send beside those of the post."""

    session_id: str
    posted: Posted
    messages: list[bytes] = field(default_factory=list)


class TriggerRepository(Protocol):
    async def put(
        self, trigger: Trigger, owner_id: str, *, uid: str, key_id: str, limit: int
    ) -> tuple[TriggerRecord, bool] | None:
        """Insert or replace; the flag is True for a new one. uid, key_id: of a new one; its secret is version 1. None:
        its owner has `limit` already."""
        ...

    async def get(self, trigger_id: str, owner_id: str) -> TriggerRecord | None: ...

    async def by_uid(self, uid: str) -> TriggerRecord | None: ...

    async def list_for(self, owner_id: str, *, limit: int) -> list[TriggerRecord]:
        """By id."""
        ...

    async def delete(self, trigger_id: str, owner_id: str) -> bool: ...

    async def rotate(
        self, trigger_id: str, owner_id: str, *, key_id: str, old_until: datetime, now: datetime
    ) -> TriggerRecord | None:
        """The next version of its secret."""
        ...

    async def note_fired(self, uid: str, *, session_id: str, turn_id: str, now: datetime) -> None: ...

    async def note_refused(self, record: TriggerRecord, reason: str, *, stopping: bool, now: datetime) -> None:
        """stopping: stop it, unless it was changed since the record was read."""
        ...


class TriggerService:
    """A user's own triggers; users cannot see each other's."""

    def __init__(
        self,
        triggers: TriggerRepository,
        readable: ReadableSessions,
        agents: AgentCatalog,
        sessions: SessionService,
        secrets: HookSecrets,
        *,
        public_base_url: str,
        queue: str | None = None,
    ) -> None:
        """queue: the name of the one whose messages fire triggers; None: there is none."""
        self._triggers = triggers
        self._readable = readable
        self._agents = agents
        self._sessions = sessions
        self._secrets = secrets
        self._queue = queue
        self._address = f"{public_base_url.rstrip('/')}/api/hooks?trigger="

    async def list_for(self, principal: Principal) -> list[Trigger]:
        found = await self._triggers.list_for(principal.user_id, limit=MAX_OWN_TRIGGERS * 2)
        return [self._shown(record) for record in found]

    async def get(self, trigger_id: str, principal: Principal) -> Trigger:
        """Raises NotFound."""
        return self._shown(await self._record(trigger_id, principal))

    async def put(
        self, trigger_id: str, body: NewTrigger, principal: Principal, *, now: datetime
    ) -> tuple[Trigger, bool]:
        """Make or replace a trigger; the flag is True for a new one, which is shown with its secret, this once.

        Raises NotFound (no such session, or the caller may not post to it), InvalidInput.
        """
        await check_target(body.session_id, body.agent_id, principal, self._readable, self._agents)
        trigger = Trigger(
            **body.model_dump(exclude={"paused", "config"}),
            id=trigger_id,
            config=body.config,
            status=TriggerStatus.PAUSED if body.paused else TriggerStatus.ACTIVE,
            status_reason=None,
            uid="",
            queue=None,
            url="",
            secret_made_at=now,
            is_secret_void=False,
            last_fired_at=None,
            last_session_id=None,
            last_turn_id=None,
            last_refused_at=None,
            last_refusal=None,
            created_at=now,
            updated_at=now,
        )
        stored = await self._triggers.put(
            trigger, principal.user_id, uid=new_id(), key_id=self._secrets.key_id, limit=MAX_OWN_TRIGGERS
        )
        if stored is None:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR, f"You can have at most {MAX_OWN_TRIGGERS} triggers; delete one first."
            )
        record, is_new = stored
        return self._shown(record, with_secret=is_new), is_new

    async def delete(self, trigger_id: str, principal: Principal) -> None:
        """Its address takes nothing any more. Raises NotFound."""
        if not await self._triggers.delete(trigger_id, principal.user_id):
            raise _no_such_trigger()

    async def rotate(self, trigger_id: str, principal: Principal, *, keep_old: timedelta, now: datetime) -> Trigger:
        """Make a new secret, shown this once; the one before stays good for `keep_old`. Raises NotFound."""
        record = await self._triggers.rotate(
            trigger_id, principal.user_id, key_id=self._secrets.key_id, old_until=now + keep_old, now=now
        )
        if record is None:
            raise _no_such_trigger()
        return self._shown(record, with_secret=True)

    # Firing. -----------------------------------------------------------------------------------

    async def fire(
        self, trigger_id: str, payload: Any, principal: Principal, *, idempotency_key: str | None, now: datetime
    ) -> FiredTrigger:
        """By its owner. Raises what posting a message does, and InvalidState while it is paused or stopped."""
        record = await self._record(trigger_id, principal)
        key = new_id() if idempotency_key is None else idempotency_key
        return await self._fire(record, payload, principal, "by-owner", key, now=now)

    async def signed(self, uid: str, body: bytes, headers: Mapping[str, str], *, now: datetime) -> TriggerRecord:
        """The trigger that a webhook is for. Raises NotFound, which does not tell a wrong signature from no trigger."""
        record = await self._open_to(TriggerSource.WEBHOOK, uid)
        if record is None or not self._secrets.is_signed(uid, record.secret, body, headers, now=now):
            raise NotFound(
                ErrorCode.SESSION_NOT_FOUND, "No such trigger, or the webhook's signature or timestamp is not good."
            )
        return record

    async def fire_signed(self, record: TriggerRecord, webhook_id: str, payload: Any, *, now: datetime) -> FiredTrigger:
        """By a webhook whose signature was verified. Raises as `fire`."""
        return await self._fire(record, payload, unattended(record.owner_id), "webhook", webhook_id, now=now)

    async def queued(self, uid: str) -> TriggerRecord:
        """The trigger that a message of the queue is for. Raises NotFound: also when it does not take messages."""
        record = await self._open_to(TriggerSource.QUEUE, uid)
        if record is None:
            raise NotFound(ErrorCode.SESSION_NOT_FOUND, "No such trigger, or it takes no messages of the queue.")
        return record

    async def fire_queued(self, record: TriggerRecord, firing_id: str, payload: Any, *, now: datetime) -> FiredTrigger:
        """By a message of the queue. firing_id: the same for the same event. Raises as `fire`."""
        return await self._fire(record, payload, unattended(record.owner_id), "queue", firing_id, now=now)

    async def _open_to(self, source: TriggerSource, uid: str) -> TriggerRecord | None:
        record = await self._triggers.by_uid(uid) if is_valid_id(uid) else None
        return record if record is not None and source in record.trigger.sources else None

    async def _fire(
        self, record: TriggerRecord, payload: Any, principal: Principal, by: str, key: str, *, now: datetime
    ) -> FiredTrigger:
        trigger = record.trigger
        if trigger.status is not TriggerStatus.ACTIVE:
            refusal = InvalidState(f"The trigger is {trigger.status.value}.")
            await self._triggers.note_refused(record, refusal.safe_message, stopping=False, now=now)
            raise refusal
        # What a caller writes may be long, or hold anything.
        key = f"trigger:{record.uid}:{by}:{hashlib.sha256(key.encode()).hexdigest()}"
        try:
            fired = await self._post(trigger, payload, principal, key)
        except (NotFound, Gone, InvalidInput, Conflict, BudgetExceeded) as exc:
            await self._refused(record, exc, now=now)
            raise
        turn_id = fired.posted.result.turn.id
        await self._triggers.note_fired(record.uid, session_id=fired.session_id, turn_id=turn_id, now=now)
        return fired

    async def _post(self, trigger: Trigger, payload: Any, principal: Principal, key: str) -> FiredTrigger:
        session_id, messages = trigger.session_id, list[bytes]()
        if session_id is None:
            new = NewSession(
                name=trigger.name or trigger.id,
                agent_id=trigger.agent_id,
                config=trigger.config,
                metadata={"trigger": trigger.id},
            )
            session, _, messages = await self._sessions.create(new, principal, idempotency_key=key)
            session_id = session.id
        message = NewMessage(
            content=trigger.content, approval_mode=trigger.approval_mode, concurrency=trigger.concurrency
        )
        posted = await self._sessions.post_message(
            session_id, message, principal, idempotency_key=key, payload=None if payload is None else Payload(payload)
        )
        return FiredTrigger(session_id, posted, messages)

    async def _refused(self, record: TriggerRecord, exc: AppError, *, now: datetime) -> None:
        owner, session_id = unattended(record.owner_id), record.trigger.session_id
        # How long a message is depends on its payload, and the next one may be shorter.
        may_stop = isinstance(exc, NotFound | Gone | InvalidInput) and exc.code is not ErrorCode.MESSAGE_TOO_LONG
        stopping = may_stop and await stops(exc, session_id, owner, self._sessions)
        if stopping:
            log.info("trigger %s of %s stops: %s", record.trigger.id, record.owner_id, exc)
        await self._triggers.note_refused(record, exc.safe_message, stopping=stopping, now=now)

    async def _record(self, trigger_id: str, principal: Principal) -> TriggerRecord:
        found = await self._triggers.get(trigger_id, principal.user_id)
        if found is None:
            raise _no_such_trigger()
        return found

    def _shown(self, record: TriggerRecord, *, with_secret: bool = False) -> Trigger:
        secret = self._secrets.secret(record.uid, record.secret.version, record.secret.key_id)
        return record.trigger.model_copy(
            update={
                "url": f"{self._address}{record.uid}",
                "queue": self._queue if TriggerSource.QUEUE in record.trigger.sources else None,
                "secret": secret if with_secret else None,
                "is_secret_void": secret is None,
            }
        )


def _no_such_trigger() -> NotFound:
    return NotFound(ErrorCode.SESSION_NOT_FOUND, "No such trigger.")
