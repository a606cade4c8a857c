"""The values that a function may set on a `signalR` output binding.

The shape decides: an object with `target` and `arguments` is a message, one with `action` changes a group.
Invariant: a value that is neither, or that lacks a required address, is refused as a whole before any part
of it is sent.
Source: Azure Functions, "SignalR Service output binding".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class HubMessage:
    """A call of a client method, sent to the first address that is set, or to everyone."""

    target: str
    arguments: list[Any]
    connection_id: str | None = None
    user_id: str | None = None
    group: str | None = None


class GroupVerb(StrEnum):
    ADD = "add"
    REMOVE = "remove"
    REMOVE_ALL = "removeAll"


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A change of a connection's or a user's membership; the connection is used when both are set."""

    verb: GroupVerb
    group: str | None
    """None only for REMOVE_ALL."""
    connection_id: str | None = None
    user_id: str | None = None


HubAction = HubMessage | GroupChange

_VERBS = {verb.value.lower(): verb for verb in GroupVerb}


def read_output(value: Any) -> list[HubAction]:
    """The actions of an output value: text or bytes of JSON, or the parsed object or list.

    Raises ValueError naming the item and its error.
    """
    if isinstance(value, str | bytes | bytearray):
        try:
            value = json.loads(value)
        except ValueError as exc:
            raise ValueError(f"signalR output is not JSON: {exc}") from exc
    items = value if isinstance(value, list) else [value]
    return [_read_item(item, f"signalR output[{index}]") for index, item in enumerate(items)]


def _read_item(item: Any, where: str) -> HubAction:
    if not isinstance(item, Mapping):
        raise ValueError(f"{where}: expected an object, got {type(item).__name__}")
    # Property names are matched without case, as the real binding does.
    fields = {str(name).lower(): value for name, value in item.items()}
    connection_id = _name(fields, "connectionId", where)
    user_id = _name(fields, "userId", where)
    group = _name(fields, "groupName", where)

    if fields.get("target") is not None and "arguments" in fields:
        target, arguments = fields["target"], fields["arguments"]
        if not isinstance(target, str) or not target:
            raise ValueError(f"{where}: target must be a non-empty string")
        if not isinstance(arguments, list):
            raise ValueError(f"{where}: arguments must be an array")
        return HubMessage(target, arguments, connection_id, user_id, group)

    if fields.get("action") is not None:
        verb = _VERBS.get(str(fields["action"]).lower())
        if verb is None:
            raise ValueError(f"{where}: action must be add, remove or removeAll, not {fields['action']!r}")
        if connection_id is None and user_id is None:
            raise ValueError(f"{where}: a group action needs a connectionId or a userId")
        if group is None and verb is not GroupVerb.REMOVE_ALL:
            raise ValueError(f"{where}: a group action needs a groupName")
        return GroupChange(verb, group, connection_id, user_id)

    raise ValueError(
        f"{where}: neither a message (target and arguments) nor a group action (action, groupName, userId or "
        f"connectionId); it has {', '.join(sorted(map(str, item))) or 'no properties'}"
    )


def _name(fields: Mapping[str, Any], key: str, where: str) -> str | None:
    value = fields.get(key.lower())
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} must be a string")
    if not value:
        # Azure treats an empty address as absent and would send a message for one user to everybody.
        raise ValueError(f"{where}: {key} is empty; leave it out to address everybody")
    return value
