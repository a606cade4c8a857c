"""PostgresSessions on a real PostgreSQL: creation, access, states, lists."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import AppError, Conflict, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.ids import new_id
from shared.sessions.events import SEQ_LEASE, EventTarget
from shared.sessions.models import Concurrency, SessionConfig, SessionStatus, TurnStatus
from shared.sessions.records.pages import SESSION_SORTS, Page, SessionFilter, decode_cursor, encode_cursor
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, call, key, new_session, utc_now

pytestmark = pytest.mark.integration


async def test_a_session_comes_back_as_it_was_stored(stores: Stores) -> None:
    session = new_session(
        name="Žofie 🙂",
        agent_id="assistant",
        tags=["a", "b c"],
        metadata={"n": 1.5, "deep": {"list": [None, True]}},
        config=SessionConfig(max_steps=3, temperature=0.25, concurrency=Concurrency.ENQUEUE),
    )

    created, is_new = await stores.create(session)
    read = await stores.sessions.get(session.id, OWNER)

    assert is_new
    assert created == read
    assert read.session == session
    assert (read.owner_id, read.access) == (OWNER, "owner")
    assert (read.target.seq_floor, read.target.seq_ceiling) == (0, SEQ_LEASE)


@pytest.mark.parametrize("user", [OWNER, READER])
async def test_an_id_that_exists_is_refused_to_whoever_may_read_its_session(stores: Stores, user: str) -> None:
    session = await stores.shared_session()

    with pytest.raises(Conflict) as caught:
        await stores.create(new_session(id=session.id), user)

    assert caught.value.code is ErrorCode.SESSION_ALREADY_EXISTS
    assert (await stores.sessions.get(session.id, OWNER)).owner_id == OWNER


async def test_an_id_that_exists_is_not_refused_to_a_stranger_who_gets_another_one(stores: Stores) -> None:
    session = await stores.session()
    claim = key(new_id(), user=STRANGER)

    made, is_new = await stores.create(new_session(id=session.id), STRANGER, idempotency=claim)
    again, again_is_new = await stores.create(new_session(id=session.id), STRANGER, idempotency=claim)

    assert (is_new, again_is_new) == (True, False)
    assert made.session.id != session.id
    assert again == made
    assert (await stores.sessions.get(session.id, OWNER)).session == session


async def test_the_same_key_and_body_make_one_session(stores: Stores) -> None:
    claim = key(new_id())

    first, first_is_new = await stores.create(new_session(), idempotency=claim)
    again, again_is_new = await stores.create(new_session(), idempotency=claim)

    assert (first_is_new, again_is_new) == (True, False)
    assert again.session == first.session


async def test_the_same_key_with_another_body_is_a_conflict(stores: Stores) -> None:
    name = new_id()
    await stores.create(new_session(), idempotency=key(name, "one"))

    with pytest.raises(Conflict) as caught:
        await stores.create(new_session(), idempotency=key(name, "two"))

    assert caught.value.code is ErrorCode.CONFLICT


async def test_a_key_belongs_to_one_user_and_one_scope(stores: Stores) -> None:
    name = new_id()
    claims = [key(name), key(name, user=STRANGER), key(name, scope="POST /y")]

    made = [await stores.create(new_session(), claim.user_id, claim) for claim in claims]

    assert [is_new for _, is_new in made] == [True, True, True]


async def test_concurrent_requests_with_one_key_make_one_session(stores: Stores) -> None:
    claim = key(new_id())

    made = await asyncio.gather(*(stores.create(new_session(), idempotency=claim) for _ in range(6)))

    assert sorted(is_new for _, is_new in made) == [False] * 5 + [True]
    assert len({record.session.id for record, _ in made}) == 1


async def test_a_refused_request_leaves_its_key_unclaimed(stores: Stores) -> None:
    taken = await stores.session()
    claim = key(new_id())
    with pytest.raises(Conflict):
        await stores.create(new_session(id=taken.id), idempotency=claim)

    _, is_new = await stores.create(new_session(), idempotency=claim)

    assert is_new


async def test_old_keys_are_forgotten_and_new_ones_kept(stores: Stores) -> None:
    old, fresh = key(new_id()), key(new_id())
    await stores.create(new_session(), idempotency=old)
    await stores.create(new_session(), idempotency=fresh)
    await stores.sql(
        b"UPDATE idempotency_keys SET created_at = now() - interval '2 days' WHERE key = %(key)s", key=old.key
    )

    forgotten = await stores.sessions.forget_idempotency_keys(before=utc_now() - timedelta(days=1))

    assert forgotten == 1
    assert (await stores.create(new_session(), idempotency=fresh))[1] is False


@pytest.mark.parametrize(("user", "access"), [(OWNER, "owner"), (WRITER, "write"), (READER, "read")])
async def test_those_who_take_part_see_the_session_with_their_access(stores: Stores, user: str, access: str) -> None:
    session = await stores.shared_session()

    assert (await stores.sessions.get(session.id, user)).access == access


async def test_a_stranger_finds_nothing(stores: Stores) -> None:
    session = await stores.shared_session()

    for attempt in (
        stores.sessions.get(session.id, STRANGER),
        stores.move(session.id, SessionStatus.ENDED, user=STRANGER),
        stores.move(session.id, SessionStatus.ENDED, user=READER),
        stores.sessions.get("no-such-session", OWNER),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.code is ErrorCode.SESSION_NOT_FOUND
    assert (await stores.sessions.get(session.id, OWNER)).session.status is SessionStatus.CREATED


async def test_a_move_from_a_state_that_is_not_allowed_is_refused(stores: Stores) -> None:
    session = await stores.session()

    with pytest.raises(InvalidState):
        await stores.move(session.id, SessionStatus.SUSPENDED, SessionStatus.ACTIVE)


async def test_of_two_moves_from_one_state_exactly_one_happens(stores: Stores) -> None:
    session = await stores.session()

    outcomes = await asyncio.gather(
        *(stores.move(session.id, SessionStatus.ACTIVE, SessionStatus.CREATED) for _ in range(4)),
        return_exceptions=True,
    )

    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InvalidState) for outcome in outcomes) == 3


async def test_suspending_names_the_orchestrations_that_run_and_not_the_queued_turns(stores: Stores) -> None:
    session = await stores.session()
    running = await stores.post(session.id)
    await stores.post(session.id, concurrency=Concurrency.ENQUEUE)

    _, interruption = await stores.move(session.id, SessionStatus.SUSPENDED)
    hold = await stores.sessions.hold(session.id)
    assert hold is not None
    instances = hold.instances

    assert instances == [running.turn.id]
    assert (interruption.turn_ids, interruption.closed_turn_ids) == ([], [])


async def test_ending_cancels_the_running_turn_and_closes_the_queued_ones(stores: Stores) -> None:
    session = await stores.session()
    running = await stores.post(session.id)
    queued = await stores.post(session.id, concurrency=Concurrency.ENQUEUE)

    record, interruption = await stores.move(session.id, SessionStatus.ENDED)

    assert record.session.status is SessionStatus.ENDED
    assert interruption.turn_ids == [running.turn.id]
    assert interruption.closed_turn_ids == [queued.turn.id]
    assert await stores.turns.cancel_requested([running.turn.id]) == {running.turn.id}
    closed = await stores.turns.get_turn(session.id, queued.turn.id)
    assert (closed.status, closed.ended_at is not None) == (TurnStatus.CANCELLED, True)


async def test_leases_never_give_a_number_twice(stores: Stores) -> None:
    target = (await stores.create(new_session()))[0].target

    more = await stores.sessions.lease(target, lost=False)
    lost = await stores.sessions.lease(target, lost=True)
    taken = await stores.sessions.allocate(target, 3)

    assert (more.seq_floor, more.seq_ceiling, more.may_seed) == (0, 2 * SEQ_LEASE, False)
    # The lost counter may have reached the old ceiling, so numbering starts above it.
    assert (lost.seq_floor, lost.seq_ceiling, lost.may_seed) == (2 * SEQ_LEASE, 3 * SEQ_LEASE, True)
    assert (taken.seq_floor, taken.seq_ceiling) == (3 * SEQ_LEASE + 3, 3 * SEQ_LEASE + 3)
    assert {more.feed, lost.feed, taken.feed} == {target.feed}
    for gone in (EventTarget("no-such-session", 0, 0), replace(target, incarnation="an earlier one")):
        with pytest.raises(NotFound):
            await stores.sessions.allocate(gone, 1)
        with pytest.raises(NotFound):
            await stores.sessions.lease(gone, lost=True)


async def test_concurrent_allocations_are_disjoint(stores: Stores) -> None:
    target = (await stores.create(new_session()))[0].target

    targets = await asyncio.gather(*(stores.sessions.allocate(target, 3) for _ in range(20)))

    ends = sorted(target.seq_floor for target in targets)
    assert ends == [SEQ_LEASE + 3 * n for n in range(1, 21)]


@pytest.mark.parametrize("field", ["name", "metadata"])
async def test_text_that_postgres_cannot_store_is_the_callers_mistake(stores: Stores, field: str) -> None:
    value = "a\x00b" if field == "name" else {"k": "a\x00b"}

    with pytest.raises(InvalidInput) as caught:
        await stores.create(new_session(**{field: value}))

    assert caught.value.code is ErrorCode.VALIDATION_ERROR


class TestLists:
    async def _walk(self, stores: Stores, user: str, wanted: SessionFilter, limit: int = 2) -> list[str]:
        ids: list[str] = []
        page = Page(limit=limit)
        while True:
            found = await stores.sessions.list_for(user, wanted, page)
            ids.extend(session.id for session in found[:limit])
            if len(found) <= limit:
                return ids
            last = found[limit - 1]
            value = last.created_at if wanted.sort.column == "created_at" else last.updated_at
            page = Page(limit=limit, after=decode_cursor(encode_cursor(value, last.id), datetime))

    @pytest.mark.parametrize("sort", SESSION_SORTS)
    async def test_pages_hold_every_session_once_in_order(self, stores: Stores, sort: str) -> None:
        owner = new_id()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        # Two share an instant: the id breaks the tie.
        made = [
            await stores.session(owner=owner, now=start + timedelta(seconds=seconds)) for seconds in (0, 1, 1, 2, 3)
        ]

        found = await self._walk(stores, owner, SessionFilter(sort=SESSION_SORTS[sort]))

        ids = [session.id for session in made]
        assert found == (ids[::-1] if sort.startswith("-") else ids)

    async def test_sessions_made_while_paging_neither_repeat_nor_hide_any(self, stores: Stores) -> None:
        owner = new_id()
        made = [(await stores.session(owner=owner)).id for _ in range(4)]
        wanted = SessionFilter(sort=SESSION_SORTS["-created_at"])
        first = await stores.sessions.list_for(owner, wanted, Page(limit=2))

        await stores.session(owner=owner)
        rest = await stores.sessions.list_for(owner, wanted, Page(limit=9, after=(first[1].created_at, first[1].id)))

        assert [session.id for session in [*first[:2], *rest]] == made[::-1]

    async def test_filters_narrow_to_what_fits_all_of_them(self, stores: Stores) -> None:
        owner = new_id()
        wanted = await stores.session(owner=owner, name="Budget 100%", tags=["x", "y"], agent_id="assistant")
        await stores.session(owner=owner, name="Budget", tags=["z"], agent_id="assistant")
        await stores.session(owner=owner)

        for wanted_filter in (
            SessionFilter(tag="x"),
            SessionFilter(q="bUDGET 100%"),
            SessionFilter(q="budget", tag="y", agent_id="assistant", status=SessionStatus.CREATED),
        ):
            assert await self._walk(stores, owner, wanted_filter) == [wanted.id]
        assert await self._walk(stores, owner, SessionFilter(status=SessionStatus.ENDED)) == []
        assert len(await self._walk(stores, owner, SessionFilter(agent_id="assistant"))) == 2

    @pytest.mark.parametrize("q", ["ÖSTERREICH", "österreich", "ΚΌΣΜΕ", "привет"])
    async def test_a_name_is_found_by_a_part_of_it_in_any_case_of_any_script(self, stores: Stores, q: str) -> None:
        owner = new_id()
        wanted = await stores.session(owner=owner, name="Österreich, Καλημέρα κόσμε, ПРИВЕТ")
        await stores.session(owner=owner, name="Osterei")
        assert await self._walk(stores, owner, SessionFilter(q=q)) == [wanted.id]

    async def test_a_listed_session_tells_its_newest_text_and_what_its_turn_waits_for(self, stores: Stores) -> None:
        owner, writer = new_id(), new_id()
        session = await stores.session(owner=owner)
        await stores.share(session.id, writer, "write")
        empty = await stores.session(owner=owner)
        first = await stores.post(session.id, "# Hello there\nand more", user=owner)
        (listed, bare) = sorted(
            await stores.sessions.list_for(owner, SessionFilter(), Page()), key=lambda found: found.id == empty.id
        )
        assert (listed.title, listed.preview, listed.open_turn) == (
            "Hello there",
            "# Hello there\nand more",
            TurnStatus.QUEUED,
        )
        assert (bare.title, bare.preview, bare.open_turn, bare.access) == (None, None, None, "owner")

        proposal = call("http_request", {"url": "https://example.org"}, needs_approval=True)
        await stores.answer(first.turn.id, content="Let me ask." + "x" * 500, calls=[proposal])
        await stores.request_approval(proposal)
        await stores.post(session.id, "Next question", user=writer, concurrency=Concurrency.ENQUEUE)
        (shared,) = await stores.sessions.list_for(writer, SessionFilter(q="hello THERE"), Page())

        assert (shared.title, shared.open_turn, shared.access) == ("Hello there", TurnStatus.WAITING_APPROVAL, "write")
        assert shared.preview == "Next question"
        assert await stores.sessions.list_for(writer, SessionFilter(q="next"), Page()) == []

    async def test_a_list_holds_what_is_shared_with_the_caller_and_no_more(self, stores: Stores) -> None:
        user = new_id()
        shared = await stores.session()
        await stores.share(shared.id, user, "read")
        await stores.session()

        assert await self._walk(stores, user, SessionFilter()) == [shared.id]

    @pytest.mark.parametrize("item_id", ["a\x00b", "ž" * 500])
    async def test_a_forged_cursor_is_an_empty_page_or_a_refusal(self, stores: Stores, item_id: str) -> None:
        for instant in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00"):
            after = decode_cursor(encode_cursor(instant, item_id), datetime)
            try:
                await stores.sessions.list_for(OWNER, SessionFilter(), Page(limit=2, after=after))
            except AppError as exc:
                assert exc.code is ErrorCode.VALIDATION_ERROR  # noqa: PT017  # either outcome is right

    async def test_pages_of_random_sessions_are_those_of_a_plain_reading(self, stores: Stores) -> None:
        chance = random.Random(13)
        users = [new_id() for _ in range(4)]
        start = datetime(2026, 1, 1, tzinfo=UTC)
        for _ in range(60):
            session = new_session(
                name=chance.choice((None, "Plan", "planning 100%", "other")),
                agent_id=chance.choice((None, "assistant")),
                tags=chance.sample(["x", "y", "z"], chance.randrange(3)),
                now=start + timedelta(seconds=chance.randrange(20)),
            )
            owner, *others = chance.sample(users, chance.randint(1, 4))
            await stores.create(session, owner)
            for user in others:
                await stores.share(session.id, user, chance.choice(("read", "write")))
            await stores.sql(
                b"UPDATE sessions SET status = %(status)s, updated_at = %(at)s WHERE id = %(id)s",
                status=chance.choice(("CREATED", "ACTIVE", "ENDED")),
                at=start + timedelta(seconds=chance.randrange(20)),
                id=session.id,
            )
        # An owner who was let in as well has a session once, not twice.
        both = b"INSERT INTO session_participants SELECT id, owner_id, 'read' FROM sessions WHERE owner_id = %(user)s"
        await stores.sql(both, user=users[0])
        rows = await stores.rows(
            b"SELECT s.*, ARRAY(SELECT p.user_id FROM session_participants p WHERE p.session_id = s.id) AS participants"
            b" FROM sessions s WHERE s.owner_id = ANY(%(users)s)",
            users=users,
        )

        found = 0
        for wanted in _random_filters(chance):
            for user in users:
                expected = _plain_reading(rows, user, wanted)
                assert await self._walk(stores, user, wanted, chance.choice((1, 3, 7, 50))) == expected
                found += len(expected)
        assert found > 1_000


def _random_filters(chance: random.Random) -> Iterator[SessionFilter]:
    for sort in SESSION_SORTS.values():
        yield SessionFilter(sort=sort)
        for _ in range(5):
            yield SessionFilter(
                status=chance.choice((None, SessionStatus.CREATED, SessionStatus.ACTIVE, SessionStatus.ENDED)),
                tag=chance.choice((None, "x", "y")),
                agent_id=chance.choice((None, "assistant")),
                q=chance.choice((None, "PLAN", "%")),
                sort=sort,
            )


def _plain_reading(rows: list[dict[str, Any]], user: str, wanted: SessionFilter) -> list[str]:
    found = [
        row
        for row in rows
        if (row["owner_id"] == user or user in row["participants"])
        and wanted.status in {None, row["status"]}
        and (wanted.tag is None or wanted.tag in row["tags"])
        and wanted.agent_id in {None, row["agent_id"]}
        and (wanted.q is None or wanted.q.lower() in (row["name"] or "").lower())
    ]
    found.sort(key=lambda row: (row[wanted.sort.column], row["id"]), reverse=wanted.sort.descending)
    return [row["id"] for row in found]
