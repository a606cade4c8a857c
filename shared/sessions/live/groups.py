"""SignalR groups of roles, and the actions that add users and connections to groups and remove them.

Not here: the group of a session (`events.py`), who is in it until when (`subscriptions.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta

import orjson

from shared.principal import Role

_ROLE_GROUPS = {Role.USER: "users", Role.APPROVER: "approvers", Role.ADMIN: "admins"}


def role_group(role: Role, at: datetime) -> str:
    """The SignalR group of those who hold a role on that day (UTC). It receives the approvals that the role may decide.

    A membership outlives connections, and nothing tells us that a user has lost a role: so each group lasts one day.
    """
    return f"{_ROLE_GROUPS[role]}-{at.astimezone(UTC):%Y-%m-%d}"


def role_memberships(roles: Collection[Role], now: datetime) -> Iterator[tuple[str, bool]]:
    """The groups of every role, today's and tomorrow's, and whether one who holds `roles` belongs in them."""
    for role in Role:
        for day in (now, now + timedelta(days=1)):
            yield role_group(role, day), role in roles


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
