"""Pins: the definitions that a version of an agent, its turns and their approvals hold on to, and how another differs.

Invariant: nothing but an admin's word changes a pin, and only a new version holds another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson
from pydantic import ConfigDict, Field

from shared.sessions.mcp.definitions import Definition
from shared.sessions.mcp.servers import Credentials, Digest, McpServer, ToolRules, tool_name
from shared.sessions.models import JsonObject, Value
from shared.visible import revealed

MAX_CHANGES = 50
_MAX_SHOWN_CHARS = 600


class McpPin(Value):
    """A tool of a server as it was defined when it was pinned."""

    # During a rolling deployment, older code may read pins of newer code.
    model_config = ConfigDict(extra="ignore")

    name: str = Field(description="By which models call it")
    server: str
    url: str = Field(description="Where the definition was read")
    digest: Digest = Field(description="SHA-256 of the definition as canonical JSON, hex")
    definition: Definition

    def stored(self) -> JsonObject:
        return self.model_dump(mode="json") | {"definition": self.definition.stored()}


class PinnedTool(McpPin):
    """A pin with all that it takes to call the tool, as a turn's plan freezes it."""

    credentials: Credentials | None = None
    rules: ToolRules = ToolRules()


def pin_of(server: McpServer, definition: Definition) -> McpPin:
    return McpPin(
        name=tool_name(server.name, definition.name),
        server=server.name,
        url=server.url,
        digest=definition.digest,
        definition=definition,
    )


def planned(servers: Sequence[McpServer], pins: Sequence[McpPin]) -> dict[str, PinnedTool]:
    """By the name that models use, in the order of the pins."""
    by_name = {server.name: server for server in servers}
    found: dict[str, PinnedTool] = {}
    for pin in pins:
        server = by_name[pin.server]
        rules = server.rules_of(pin.definition.name)
        found[pin.name] = PinnedTool(**dict(pin), credentials=server.credentials, rules=rules)
    return found


class PinState(StrEnum):
    """What a server says of a pinned tool now."""

    SAME = "same"
    CHANGED = "changed"  # calls fail until an admin accepts the new definition
    MISSING = "missing"  # the server does not offer it
    REFUSED = "refused"  # it offers it in a form that is not accepted
    UNKNOWN = "unknown"  # the server did not answer


class Change(Value):
    """One difference. Text shows invisible characters as escapes and is cut."""

    path: str = Field(description="Where in the definition, e.g. `input_schema.properties.to.description`")
    pinned: str | None = Field(description="As JSON; null: not there")
    current: str | None = Field(description="As JSON; null: not there")


def changes(pinned: Definition, current: Definition) -> list[Change]:
    """Every place where they differ, at most MAX_CHANGES."""
    found: list[Change] = []
    for change in _differences(pinned.model_dump(mode="json"), current.model_dump(mode="json"), ""):
        if len(found) == MAX_CHANGES:
            break
        found.append(change)
    return found


_NOTHING = object()


def _differences(old: Any, new: Any, path: str) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{revealed(key)}" if path else revealed(key)
            yield from _differences(old.get(key, _NOTHING), new.get(key, _NOTHING), inner[:_MAX_SHOWN_CHARS])
    elif _shown(old) != _shown(new) or type(old) is not type(new) or old != new:
        yield Change(path=path, pinned=_cut(_shown(old)), current=_cut(_shown(new)))


def _shown(value: object) -> str | None:
    return None if value is _NOTHING else revealed(orjson.dumps(value).decode())


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
