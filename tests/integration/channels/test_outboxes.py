"""The outboxes of webhooks and cards: what is queued, claimed, tried again, given up and forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.adapters.postgres.channels.cards import PostgresCards
from shared.adapters.postgres.channels.webhooks import PostgresDeliveries, PostgresWebhooks
from shared.errors import ErrorCode, InvalidInput, NotFound, Transient
from shared.principal import Principal, Role
from shared.sessions.channels.carding import CardDeliverer
from shared.sessions.channels.cards import Card
from shared.sessions.channels.delivering import KEPT, LEASE, Answered, WebhookDeliverer
from shared.sessions.channels.models import (
    Delivery,
    DeliveryStatus,
    NewWebhook,
    WebhookEvent,
    WebhookPatch,
    WebhookWithSecret,
)
from shared.sessions.channels.patience import DELAYS_S, OFF_AFTER
from shared.sessions.channels.secrets import WebhookSecrets
from shared.sessions.channels.webhooks import MAX_OWN_WEBHOOKS, WebhookService
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import SessionStatus, TurnStatus
from shared.sessions.records.approval_policy import ApprovalPolicy, Channel, NoticeKind
from shared.signing import ApprovalLinks
from tests.integration.domain import Stores, call, erase_session, session_erasure, until, utc_now, vote_on

pytestmark = pytest.mark.integration

SECRETS = WebhookSecrets([b"k" * 32])
ALL = list(WebhookEvent)


class Receiver:
    """Implements `WebhookSender`, and answers as told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, bytes, Sequence[str]]] = []
        self.answer = Answered(200, None, 1)

    async def send(self, url: str, message_id: str, body: bytes, secrets: Sequence[str], *, now: datetime) -> Answered:
        self.sent.append((url, message_id, body, secrets))
        return self.answer


class AnyAddress:
    def check(self, url: str) -> None:
        """All are allowed."""


class Hooks:
    """A user with webhooks."""

    def __init__(self, stores: Stores, user: str, receiver: Receiver) -> None:
        self.stores = stores
        self.principal = Principal(user, frozenset({Role.USER}))
        self.service = WebhookService(PostgresWebhooks(stores.pool), SECRETS, AnyAddress())
        self.receiver = receiver
        self.deliverer = WebhookDeliverer(PostgresDeliveries(stores.pool), SECRETS, receiver)

    async def hook(self, *events: WebhookEvent, url: str = "https://example.com/") -> WebhookWithSecret:
        return await self.service.create(NewWebhook(url=url, events=list(events) or ALL), self.principal)

    async def completed_turn(self) -> tuple[str, str]:
        """(session id, turn id) of a turn of theirs that has completed."""
        session = await self.stores.session(owner=self.principal.user_id)
        posted = await self.stores.post(session.id, user=self.principal.user_id)
        await self.stores.finish(posted.turn.id)
        return session.id, posted.turn.id

    async def deliveries(self, webhook_id: str) -> list[Delivery]:
        return await self.service.deliveries(webhook_id, self.principal)

    async def deliver(self, at: datetime | None = None) -> int:
        return await self.deliverer.deliver(now=at or utc_now() + timedelta(seconds=1))


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def hooks(stores: Stores, receiver: Receiver, request: pytest.FixtureRequest) -> Hooks:
    await stores.sql(b"DELETE FROM webhooks")
    return Hooks(stores, f"owner-{request.node.name}", receiver)


async def test_the_end_of_a_turn_is_queued_in_its_own_transaction_and_once(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    session_id, turn_id = await hooks.completed_turn()
    await hooks.stores.finish(turn_id)  # a repeat

    (delivery,) = await hooks.deliveries(hook.id)
    assert (delivery.event, delivery.status, delivery.data.session_id) == (
        WebhookEvent.TURN_COMPLETED,
        DeliveryStatus.PENDING,
        session_id,
    )
    assert await hooks.deliver() == 1
    assert await hooks.deliver() == 0
    assert hooks.receiver.sent[0][3] == [hook.secret]


async def test_a_transaction_that_is_rolled_back_tells_nothing(hooks: Hooks) -> None:
    hook = await hooks.hook()
    session = await hooks.stores.session(owner=hooks.principal.user_id)
    posted = await hooks.stores.post(session.id, user=hooks.principal.user_id)
    with contextlib.suppress(RuntimeError):
        async with hooks.stores.pool.transaction() as connection:
            await connection.execute(b"UPDATE turns SET status = 'failed' WHERE id = %s", [posted.turn.id])
            raise RuntimeError
    assert await hooks.deliveries(hook.id) == []


@pytest.mark.parametrize(("kind", "told"), [("input", ["turn.waiting"]), ("result", [])])
async def test_a_turn_that_waits_for_a_persons_answer_is_told_and_one_for_a_result_is_not(
    hooks: Hooks, kind: str, told: list[str]
) -> None:
    hook = await hooks.hook()
    session = await hooks.stores.session(owner=hooks.principal.user_id)
    turn_id = (await hooks.stores.post(session.id, user=hooks.principal.user_id)).turn.id
    await hooks.stores.sql(
        b"""
        WITH call AS (
            INSERT INTO tool_calls (id, session_id, turn_id, message_id, step, ordinal, provider_call_id, name,
                                    arguments, needs_approval, status)
            SELECT id || '-c', session_id, turn_id, id, 1, 0, 'c', 'ask', '{}', false, 'pending' FROM messages
            WHERE turn_id = %(turn)s
            RETURNING id, session_id, turn_id
        )
        INSERT INTO tool_waits (id, tool_call_id, session_id, turn_id, number, tool, kind, status, request, asked_of,
                                opened_at, expires_at, instance_id)
        SELECT id || '-w', id, session_id, turn_id, 1, 'ask', %(kind)s, 'pending', '{}', 'ada', now(), now(), 'i'
        FROM call
        """,
        turn=turn_id,
        kind=kind,
    )
    await hooks.stores.sql(b"UPDATE turns SET status = 'waiting_input' WHERE id = %(turn)s", turn=turn_id)
    assert [delivery.event.value for delivery in await hooks.deliveries(hook.id)] == told


async def test_what_is_claimed_by_a_process_that_dies_is_sent_by_the_next(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    now = utc_now() + timedelta(seconds=1)
    rows = PostgresDeliveries(hooks.stores.pool)
    (lost,) = await rows.claim(now=now, until=now + LEASE, limit=10, each=10)

    assert await hooks.deliver(now) == 0, "it is somebody's"
    assert await hooks.deliver(now + LEASE) == 1
    assert hooks.receiver.sent[0][1] == lost.id
    await rows.failed(lost, Answered(None, "late", 1), now=now, again_at=None)
    (delivery,) = await hooks.deliveries(hook.id)
    assert (delivery.status, delivery.tries) == (DeliveryStatus.DELIVERED, 2), "not the late outcome"


async def test_two_processes_never_claim_the_same(hooks: Hooks) -> None:
    await hooks.hook(WebhookEvent.TURN_COMPLETED)
    for _ in range(6):
        await hooks.completed_turn()
    now = utc_now() + timedelta(seconds=1)
    rows = PostgresDeliveries(hooks.stores.pool)
    claims = await asyncio.gather(*(rows.claim(now=now, until=now + LEASE, limit=4, each=4) for _ in range(4)))
    ids = [due.id for claim in claims for due in claim]
    assert len(ids) == len(set(ids))


async def test_one_webhook_leaves_places_to_the_others(hooks: Hooks, receiver: Receiver) -> None:
    await hooks.hook(WebhookEvent.TURN_COMPLETED, url="https://busy.example/")
    for _ in range(6):
        await hooks.completed_turn()
    other = Hooks(hooks.stores, f"other-{hooks.principal.user_id}", receiver)
    await other.hook(WebhookEvent.TURN_COMPLETED, url="https://quiet.example/")
    await other.completed_turn()

    assert await hooks.deliver() == 5, "four of the busy one"
    assert [url for url, *_ in receiver.sent].count("https://quiet.example/") == 1


async def test_a_receiver_that_refuses_is_tried_again_for_a_day_and_then_it_has_failed(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    hooks.receiver.answer = Answered(503, "The receiver answered 503.", 7, retry_after_s=60.0)
    for tries in range(1, len(DELAYS_S) + 2):
        await hooks.stores.sql(
            b"UPDATE webhook_deliveries SET due_at = now() - interval '1 s' WHERE status = 'pending'"
        )
        assert await hooks.deliver(utc_now()) == 1
        (delivery,) = await hooks.deliveries(hook.id)
        assert (delivery.tries, delivery.answer_code, delivery.took_ms) == (tries, 503, 7)
        if tries == 1:
            assert delivery.next_try_at is not None
            assert delivery.next_try_at - utc_now() > timedelta(seconds=50), "as it asked"
    assert (delivery.status, delivery.next_try_at) == (DeliveryStatus.FAILED, None)
    again = await hooks.service.send_again(delivery.id, hook.id, hooks.principal)
    assert (again.status, again.tries) == (DeliveryStatus.PENDING, 0)
    hooks.receiver.answer = Answered(204, None, 1)
    assert await hooks.deliver() == 1
    assert (await hooks.service.get(hook.id, hooks.principal)).failing_since is None


@pytest.mark.parametrize(("code", "days", "words"), [(500, OFF_AFTER, "3 days"), (410, timedelta(0), "410")])
async def test_a_receiver_that_is_down_for_days_or_gone_is_switched_off_and_says_so(
    hooks: Hooks, caplog: pytest.LogCaptureFixture, code: int, days: timedelta, words: str
) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    await hooks.completed_turn()
    since = utc_now() - days
    await hooks.stores.sql(b"UPDATE webhooks SET failing_since = %(since)s WHERE id = %(id)s", since=since, id=hook.id)
    hooks.receiver.answer = Answered(code, f"The receiver answered {code}.", 1)
    await hooks.deliver()

    found = await hooks.service.get(hook.id, hooks.principal)
    assert (found.enabled, words in (found.off_reason or "")) == (False, True)
    assert f"webhook switched off: {hook.id}" in caplog.text
    assert hook.url not in caplog.text
    assert {one.status for one in await hooks.deliveries(hook.id)} == {DeliveryStatus.FAILED}
    await hooks.completed_turn()
    assert len(await hooks.deliveries(hook.id)) == 2, "nothing more is queued"


async def test_what_was_queued_while_its_webhook_was_switched_off_waits_until_it_is_on(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    await hooks.stores.sql(b"UPDATE webhooks SET off_at = now() WHERE id = %(id)s", id=hook.id)
    assert await hooks.deliver() == 0
    await hooks.service.change(hook.id, WebhookPatch(enabled=True), hooks.principal)
    assert await hooks.deliver() == 1


async def test_a_webhook_whose_secret_is_gone_is_switched_off_and_a_new_secret_helps(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    others = WebhookDeliverer(PostgresDeliveries(hooks.stores.pool), WebhookSecrets([b"x" * 32]), hooks.receiver)
    await others.deliver(now=utc_now() + timedelta(seconds=1))

    found = await hooks.service.get(hook.id, hooks.principal)
    assert "secret" in (found.off_reason or "")
    assert hooks.receiver.sent == []


async def test_both_secrets_sign_for_a_day_after_a_rotation(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    newer = await hooks.service.renew_secret(hook.id, hooks.principal)
    await hooks.completed_turn()
    await hooks.deliver()
    await hooks.stores.sql(b"UPDATE webhooks SET previous_until = now()")
    await hooks.completed_turn()
    await hooks.deliver()
    assert [secrets for *_, secrets in hooks.receiver.sent] == [[newer.secret, hook.secret], [newer.secret]]


async def test_no_secret_is_stored(hooks: Hooks) -> None:
    hook = await hooks.hook()
    (row,) = await hooks.stores.rows(b"SELECT * FROM webhooks WHERE id = %(id)s", id=hook.id)
    assert hook.secret not in str(row)
    assert hook.secret.removeprefix("whsec_") not in str(row)


async def test_nobody_touches_a_webhook_of_somebody_else(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    (delivery,) = await hooks.deliveries(hook.id)
    eve = Principal("eve", frozenset({Role.USER, Role.ADMIN}))
    service = hooks.service
    for attempt in (
        service.get(hook.id, eve),
        service.delete(hook.id, eve),
        service.renew_secret(hook.id, eve),
        service.deliveries(hook.id, eve),
        service.send_again(delivery.id, hook.id, eve),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await service.list_for(eve) == []


async def test_webhooks_of_a_user_are_limited(hooks: Hooks) -> None:
    for _ in range(MAX_OWN_WEBHOOKS):
        await hooks.hook()
    with pytest.raises(InvalidInput) as refused:
        await hooks.hook()
    assert refused.value.code is ErrorCode.VALIDATION_ERROR


async def test_deleting_a_webhook_waits_for_no_turn_and_breaks_none(hooks: Hooks) -> None:
    """A turn that ends while its owner's webhook is deleted: the webhook is waited for, and left out."""
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    session = await hooks.stores.session(owner=hooks.principal.user_id)
    posted = await hooks.stores.post(session.id, user=hooks.principal.user_id)
    async with hooks.stores.pool.transaction() as connection:
        await connection.execute(b"DELETE FROM webhooks WHERE id = %s", [hook.id])
        ending = asyncio.create_task(hooks.stores.finish(posted.turn.id))
        await until(lambda: _waits_for_a_lock(hooks.stores))
    await ending
    status = await hooks.stores.value(b"SELECT status FROM turns WHERE id = %(id)s", id=posted.turn.id)
    assert status == TurnStatus.COMPLETED


async def _waits_for_a_lock(stores: Stores) -> bool:
    return bool(
        await stores.value(
            b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


async def test_an_erased_session_leaves_only_that_it_ended_until_that_is_told(
    hooks: Hooks, publisher: SessionEventPublisher
) -> None:
    hook = await hooks.hook()
    session_id, _ = await hooks.completed_turn()
    await erase_session(session_erasure(hooks.stores, publisher), session_id, hooks.principal.user_id)

    (left,) = await hooks.deliveries(hook.id)
    assert (left.event, left.status) == (WebhookEvent.SESSION_ENDED, DeliveryStatus.PENDING)
    await hooks.deliver()
    assert len(hooks.receiver.sent) == 1
    assert await hooks.deliveries(hook.id) == []


async def test_a_session_that_ends_is_told_once(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.SESSION_ENDED)
    session = await hooks.stores.session(owner=hooks.principal.user_id)
    for _ in range(2):
        await hooks.stores.move(session.id, SessionStatus.ENDED, user=hooks.principal.user_id)
    (delivery,) = await hooks.deliveries(hook.id)
    assert delivery.data.session_id == session.id


async def test_old_deliveries_are_forgotten_and_those_that_wait_are_not(hooks: Hooks) -> None:
    hook = await hooks.hook(WebhookEvent.TURN_COMPLETED)
    await hooks.completed_turn()
    await hooks.deliver()
    await hooks.completed_turn()
    long_after = utc_now() + KEPT + timedelta(minutes=1)

    assert await hooks.deliverer.forget(now=utc_now()) == 0
    assert await hooks.deliverer.forget(now=long_after) == 1
    (left,) = await hooks.deliveries(hook.id)
    assert left.status is DeliveryStatus.PENDING


# Cards. ------------------------------------------------------------------------------------------


class Chat:
    """Implements `CardChannel`."""

    def __init__(self) -> None:
        self.cards: list[Card] = []
        self.is_down = False

    async def send(self, card: Card) -> None:
        if self.is_down:
            raise Transient(ErrorCode.INTERNAL_ERROR, "Slack answered 503.")
        self.cards.append(card)


class Carded:
    """An approval that waits, and chats to tell of it."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.rows = PostgresCards(stores.pool, stores.trail)
        self.chats: dict[Channel, Chat] = {Channel.SLACK: Chat(), Channel.TEAMS: Chat()}
        links = ApprovalLinks("s" * 32, "https://parley.example")
        self.cards = CardDeliverer(self.rows, stores.approvals, links, dict(self.chats))

    async def approval(self, **policy: Any) -> Any:
        proposal = call("http_request", {"method": "POST", "url": "http://example.test/"}, needs_approval=True)
        await self.stores.proposed(proposal)
        return await self.stores.request_approval(proposal, policy=ApprovalPolicy.model_validate(policy))

    def counts(self) -> dict[Channel, int]:
        return {channel: len(chat.cards) for channel, chat in self.chats.items()}

    async def deliver(self, at: datetime | None = None) -> int:
        return await self.cards.deliver(now=at or utc_now() + timedelta(seconds=1))


@pytest.fixture
async def carded(stores: Stores) -> Carded:
    await stores.sql(b"DELETE FROM approval_cards")
    return Carded(stores)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({}, {Channel.SLACK: 1, Channel.TEAMS: 1}),
        ({"channels": ["slack", "email"]}, {Channel.SLACK: 1, Channel.TEAMS: 0}),
        ({"channels": []}, {Channel.SLACK: 0, Channel.TEAMS: 0}),
    ],
)
async def test_each_channel_that_the_policy_names_gets_one_card(
    carded: Carded, policy: dict[str, Any], told: dict[Channel, int]
) -> None:
    approval = await carded.approval(**policy)
    for _ in range(2):  # the activity that queues may run twice
        await carded.cards.queue(approval.id, NoticeKind.REQUESTED, 0)
    await carded.deliver()
    assert await carded.deliver(utc_now() + 10 * LEASE) == 0
    assert carded.counts() == told


async def test_a_card_is_in_the_audit_trail_once_it_was_taken(carded: Carded) -> None:
    approval = await carded.approval(channels=["slack"])
    await carded.cards.queue(approval.id, NoticeKind.REMINDER, 2)
    await carded.deliver()
    notes = [
        details
        for session_id, action, details in carded.stores.audit.lines
        if (session_id, action) == (approval.session_id, "approval.notified")
    ]
    assert [(note["channel"], note["kind"], note["message_id"]) for note in notes] == [
        ("slack", "reminder", f"{approval.id}.reminder.2")
    ]


async def test_what_is_decided_meanwhile_is_not_sent(carded: Carded) -> None:
    approval = await carded.approval()
    await carded.cards.queue(approval.id, NoticeKind.REQUESTED, 0)
    assert await carded.stores.decide(approval, vote_on(approval))
    await carded.deliver()
    assert set(carded.counts().values()) == {0}
    assert await carded.deliver(utc_now() + 10 * LEASE) == 0


async def test_one_chat_that_is_down_holds_up_no_other_and_is_tried_again(
    carded: Carded, caplog: pytest.LogCaptureFixture
) -> None:
    approval = await carded.approval()
    await carded.cards.queue(approval.id, NoticeKind.REQUESTED, 0)
    carded.chats[Channel.SLACK].is_down = True
    await carded.deliver()
    assert carded.counts() == {Channel.SLACK: 0, Channel.TEAMS: 1}
    carded.chats[Channel.SLACK].is_down = False
    assert await carded.deliver(utc_now() + timedelta(seconds=DELAYS_S[0] + 1)) == 1
    assert carded.counts() == {Channel.SLACK: 1, Channel.TEAMS: 1}


async def test_a_chat_that_takes_nothing_is_given_up_and_the_log_says_so(
    carded: Carded, caplog: pytest.LogCaptureFixture
) -> None:
    approval = await carded.approval(channels=["slack"])
    await carded.cards.queue(approval.id, NoticeKind.REQUESTED, 0)
    carded.chats[Channel.SLACK].is_down = True
    await carded.stores.sql(b"UPDATE approval_cards SET tries = %(tries)s", tries=len(DELAYS_S))
    await carded.deliver()
    assert f"card not taken: slack of approval {approval.id}" in caplog.text
    assert await carded.deliver(utc_now() + timedelta(days=3)) == 0


async def test_a_card_that_a_process_died_with_is_sent_by_the_next(carded: Carded) -> None:
    approval = await carded.approval(channels=["slack"])
    await carded.cards.queue(approval.id, NoticeKind.REQUESTED, 0)
    now = utc_now() + timedelta(seconds=1)
    assert len(await carded.rows.claim(now=now, until=now + LEASE, limit=5)) == 1
    assert await carded.deliver(now) == 0
    assert await carded.deliver(now + LEASE) == 1
    assert carded.counts()[Channel.SLACK] == 1
