"""Whom an event for a session and for approvers is addressed to: each connection once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, combinations

import pytest

from shared.errors import ErrorCode, Transient
from shared.sessions.events import EventTarget
from shared.sessions.live.audience import MOST_CONNECTIONS, MOST_LISTENERS, Audience, Listener
from shared.sessions.live.groups import day_memberships, groups_of_roles
from shared.sessions.live.realtime import DeliveryFailed

TARGET = EventTarget("s", 0, 100)
SESSION = ("groupName", "session-s")
APPROVERS = ("groupName", "approvers")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class World:
    """members: who is in the group of approvers. is_away: what can be asked nothing."""

    listeners: Sequence[Listener] = ()
    members: Sequence[str] = ()
    is_away: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def on_record(self, session_id: str, limit: int) -> Sequence[Listener]:
        if self.is_away == "postgres":
            raise Transient(ErrorCode.DATABASE_ERROR, "away")
        return self.listeners[:limit]

    async def is_member(self, group: str, user_id: str) -> bool:
        self.asked.append((group, user_id))
        if self.is_away == "signalr":
            raise DeliveryFailed("away")
        return group == "approvers" and user_id in self.members

    async def receivers(self, *users: str, is_heard: bool = True) -> list[tuple[str, str]]:
        audience = Audience(self.on_record, self.is_member)
        return [*await audience.receivers(TARGET, ["approvers"], users, is_heard=is_heard)]


TABS = [Listener("olga", "tab-2"), Listener("olga", "tab-1")]
READER = Listener("rita", "phone")


@pytest.mark.parametrize(
    ("world", "users", "receivers"),
    [
        (World(), [], [SESSION, APPROVERS]),
        (World(TABS), [], [SESSION, APPROVERS]),
        (World(TABS, ["olga"]), [], [APPROVERS]),
        (World([*TABS, READER], ["olga"]), [], [("connectionId", "phone"), APPROVERS]),
        (World([*TABS, Listener("rita", None), READER], ["olga"]), [], [("userId", "rita"), APPROVERS]),
        (World([READER]), ["rita"], [APPROVERS, ("userId", "rita")]),
        (World([READER], ["rita"]), ["rita"], [APPROVERS]),
        (World([], ["rita"]), ["rita", "uma", "uma"], [SESSION, APPROVERS, ("userId", "uma")]),
        (World([Listener("olga", None), *TABS], ["olga"]), [], [APPROVERS]),
    ],
    ids=[
        "nobody on record",
        "no approver",
        "an approver with two tabs",
        "an approver and a reader",
        "a reader with all their connections",
        "somebody who is named",
        "somebody who is named and an approver",
        "named twice",
        "an approver with all their connections",
    ],
)
async def test_who_is_reached_as_an_approver_is_not_addressed_in_the_session(
    world: World, users: Sequence[str], receivers: list[tuple[str, str]]
) -> None:
    assert await world.receivers(*users) == receivers


@pytest.mark.parametrize("is_away", ["postgres", "signalr"])
async def test_in_doubt_everybody_is_addressed(is_away: str) -> None:
    world = World([*TABS, READER], ["olga"], is_away)
    assert await world.receivers("uma") == [SESSION, APPROVERS, ("userId", "uma")]


async def test_a_session_that_nobody_hears_is_not_addressed_and_nobody_is_asked_about_it() -> None:
    world = World(TABS, ["olga"])
    assert await world.receivers(is_heard=False) == [APPROVERS]
    assert world.asked == []


async def test_a_crowd_is_addressed_as_a_group() -> None:
    crowd = [Listener(f"u{number}", "tab") for number in range(MOST_LISTENERS + 1)]
    assert await World(crowd, ["u1"]).receivers() == [SESSION, APPROVERS]


async def test_of_connections_that_nobody_said_are_gone_the_latest_are_addressed() -> None:
    left_behind = [Listener("rita", f"tab-{number}") for number in range(MOST_CONNECTIONS + 5)]
    found = await World([*TABS, *left_behind], ["olga"]).receivers()
    assert found == [*(("connectionId", f"tab-{number}") for number in range(MOST_CONNECTIONS)), APPROVERS]


def _sets(names: Sequence[str]) -> list[set[str]]:
    return [set(some) for some in chain.from_iterable(combinations(names, n) for n in range(len(names) + 1))]


@pytest.mark.parametrize("named", [one for one in _sets(["user", "approver", "admin", "finance"]) if one])
@pytest.mark.parametrize("held", _sets(["approver", "admin", "finance", "approvers"]))
def test_whoever_holds_one_of_the_roles_is_in_one_of_their_groups(named: set[str], held: set[str]) -> None:
    roles = {"user", *held}
    groups = groups_of_roles(sorted(named), NOON)
    joined = {group for group, is_member in day_memberships(roles, NOON) if is_member}
    assert len(groups) == len(set(groups))
    assert len(joined & set(groups)) == (1 if roles & named else 0)
