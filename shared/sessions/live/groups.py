"""SignalR groups of roles, and the actions that add users and connections to groups and remove them.

Not here: the group of a session (`events.py`), who is in it until when (`subscriptions.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import orjson

from shared.principal import Role

_ROLE_GROUPS: Mapping[str, str] = {Role.USER: "users", Role.APPROVER: "approvers", Role.ADMIN: "admins"}


class _Standing(StrEnum):
    """Which of the roles that Parley knows somebody does not have beside another one."""

    NEITHER = "neither"  # neither approver nor admin
    ADMIN = "admin"  # no approver
    APPROVER = "approver"  # no admin


def role_group(role: str, at: datetime) -> str:
    """The SignalR group of those who hold a role on that day (UTC). It receives the approvals that the role may decide.

    A membership outlives connections, and nothing tells us that a user has lost a role: so each group lasts one day.
    """
    # With a dot, which no name of the others has: a role called "users" is not everybody.
    return f"{_ROLE_GROUPS.get(role, f'role.{role}')}-{at.astimezone(UTC):%Y-%m-%d}"


def _part_of(role: str, standing: _Standing, at: datetime) -> str:
    """The group of those holders of a role who have this standing; with a character that no name of a role has."""
    return f"{_ROLE_GROUPS.get(role, f'role.{role}')}~{standing}-{at.astimezone(UTC):%Y-%m-%d}"


def _standing(roles: Collection[str]) -> _Standing | None:
    """None for one who is both."""
    if Role.APPROVER in roles:
        return None if Role.ADMIN in roles else _Standing.APPROVER
    return _Standing.ADMIN if Role.ADMIN in roles else _Standing.NEITHER


def groups_of_roles(roles: Collection[str], at: datetime) -> list[str]:
    """The groups that hold whoever has one of these roles.

    Nobody is in two of them, but for one who holds several roles of an organisation: which of these go together, nobody
    knows.
    """
    if Role.USER in roles:
        return [role_group(Role.USER, at)]
    others = [role for role in dict.fromkeys(roles) if role not in _ROLE_GROUPS]
    if Role.APPROVER in roles:
        found, left = [role_group(Role.APPROVER, at)], [_Standing.NEITHER]
        if Role.ADMIN in roles:
            found.append(_part_of(Role.ADMIN, _Standing.ADMIN, at))
        else:
            left.append(_Standing.ADMIN)
    elif Role.ADMIN in roles:
        found, left = [role_group(Role.ADMIN, at)], [_Standing.NEITHER, _Standing.APPROVER]
    else:
        return [role_group(role, at) for role in others]
    return [*found, *(_part_of(role, standing, at) for role in others for standing in left)]


def day_memberships(roles: Collection[str], day: datetime) -> Iterator[tuple[str, bool]]:
    """The groups of roles on a day (UTC), and whether one who holds `roles` belongs in them.

    Of an organisation's roles only those that are held: which ones somebody had before, nobody knows. A membership that
    is not removed ends with its day.
    """
    for role in dict.fromkeys([*Role, *sorted(roles)]):
        yield role_group(role, day), role in roles
    own = _standing(roles)
    yield _part_of(Role.ADMIN, _Standing.ADMIN, day), own is _Standing.ADMIN
    for role in sorted(set(roles) - _ROLE_GROUPS.keys()):
        for standing in _Standing:
            yield _part_of(role, standing, day), own is standing


def role_memberships(roles: Collection[str], now: datetime) -> Iterator[tuple[str, bool]]:
    """`day_memberships` of today and tomorrow."""
    for day in (now, now + timedelta(days=1)):
        yield from day_memberships(roles, day)


def group_action(verb: str, group: str, *, user_id: str | None = None, connection_id: str | None = None) -> bytes:
    """A SignalRGroupAction of the output binding. verb: add or remove."""
    value = {"action": verb, "groupName": group}
    if connection_id is not None:
        value["connectionId"] = connection_id
    if user_id is not None:
        value["userId"] = user_id
    return orjson.dumps(value)


def is_group_action(message: bytes) -> bool:
    """Whether an encoded message for the output binding is one of `group_action`."""
    return message.startswith(b'{"action":')
