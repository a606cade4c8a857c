"""Makes pins for a version of an agent, and compares them with what the servers say now.

Invariant: a tool that is pinned keeps its pin until an admin accepts another definition by its digest, or stops naming
the tool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import orjson
from pydantic import Field

from shared.errors import Conflict, ErrorCode, InvalidInput, ToolFailed, ToolRefused
from shared.sessions.mcp.definitions import Definition, Offered
from shared.sessions.mcp.pins import Change, McpPin, PinState, changes, pin_of
from shared.sessions.mcp.reading import McpServers
from shared.sessions.mcp.servers import MAX_PINS, Digest, McpServer
from shared.sessions.models import Value
from shared.visible import revealed

MAX_PINS_BYTES = 128 * 1024
"""Of all definitions of an agent: every turn carries them in its plan."""
MAX_OTHERS = 200


class PinReport(Value):
    """A pinned tool, and what its server says of it now."""

    pin: McpPin
    state: PinState
    current: Definition | None = Field(None, description="The definition of the server now, if it differs")
    current_digest: Digest | None = Field(None, description="Of `current`; accepting names it")
    changes: list[Change] = Field([], description="Where both differ")
    problem: str | None = Field(None, description="Why the state is `refused` or `unknown`")


class McpServerReport(Value):
    """A server of an agent, as it answers now."""

    name: str
    url: str
    protocol_version: str | None = Field(None, description="Of MCP, that it speaks; null: it did not answer")
    problem: str | None = Field(None, description="Why it could not be read")
    tools: list[PinReport] = Field(description="The pinned ones")
    others: list[str] = Field([], description="Names of tools that it offers besides, at most 200")


class AcceptedDefinitions(Value):
    """Body of `POST /agents/{agent_id}/mcp/accept`."""

    digests: dict[str, Digest] = Field(
        min_length=1, max_length=MAX_PINS, description="By the name of a tool, the `current_digest` to accept"
    )


class Pinning:
    """Reads definitions through the port and makes pins of them."""

    def __init__(self, servers: McpServers) -> None:
        self._servers = servers

    async def pins_for(self, wanted: Sequence[McpServer], kept: Sequence[McpPin]) -> list[McpPin]:
        """The pins of a new version, in the order in which the servers name their tools.

        kept: pins that stand, where name and address of their server are the same. Servers without new tools are not
        asked. Raises InvalidInput, which names the fields, and ToolFailed when a server could not be read.
        """
        self._check(wanted)
        standing = {(pin.server, pin.url, pin.definition.name): pin for pin in reversed(kept)}
        asked = [server for server in wanted if any(_key(server, tool) not in standing for tool in server.tools)]
        offers = dict(zip((server.name for server in asked), await self._all_offered(asked), strict=True))
        errors: list[dict[str, str]] = []
        pins: list[McpPin] = []
        for index, server in enumerate(wanted):
            for place, tool in enumerate(server.tools):
                pin = standing.get(_key(server, tool))
                if pin is None:
                    definition = offers[server.name].definitions.get(tool)
                    if definition is None:
                        message = f"the server {_why_not(offers[server.name], tool)}"
                        errors.append({"field": f"mcp_servers.{index}.tools.{place}", "message": f"{tool}: {message}"})
                        continue
                    pin = pin_of(server, definition)
                pins.append(pin)
        if errors:
            shown = "; ".join(error["message"] for error in errors[:5])
            raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"Tools cannot be pinned. {shown}.", errors=errors[:20])
        _check_size(pins)
        return pins

    async def accepted(
        self, servers: Sequence[McpServer], pins: Sequence[McpPin], digests: Mapping[str, str]
    ) -> list[McpPin]:
        """The pins, those that are named replaced by what their servers say now.

        Raises InvalidInput, ToolFailed, and Conflict when a server now says something else than was accepted.
        """
        unknown = sorted(set(digests) - {pin.name for pin in pins})
        if unknown:
            raise _invalid("digests", f"there is no pinned tool {revealed(unknown[0])[:80]}")
        self._check(servers)
        asked = [server for server in servers if any(p.server == server.name and p.name in digests for p in pins)]
        offers = dict(zip((server.name for server in asked), await self._all_offered(asked), strict=True))
        by_name = {server.name: server for server in servers}
        found: list[McpPin] = []
        for pin in pins:
            if pin.name in digests:
                current = offers[pin.server].definitions.get(pin.definition.name)
                if current is None or current.digest != digests[pin.name]:
                    why = "has changed again" if current is not None else "is no longer offered"
                    message = f"The definition of {pin.name} {why} since you read it; compare it again."
                    raise Conflict(ErrorCode.CONFLICT, message)
                pin = pin_of(by_name[pin.server], current)
            found.append(pin)
        _check_size(found)
        return found

    async def compared(self, servers: Sequence[McpServer], pins: Sequence[McpPin]) -> list[McpServerReport]:
        """Each server as it answers now. A server that fails is a report, not an error."""
        found = await asyncio.gather(*map(self._servers.offered, servers), return_exceptions=True)
        reports = []
        for server, offered in zip(servers, found, strict=True):
            own = [pin for pin in pins if pin.server == server.name]
            if isinstance(offered, ToolFailed):
                reports.append(_silent(server, own, offered.safe_message))
            elif isinstance(offered, BaseException):
                raise offered
            else:
                reports.append(_report(server, own, offered))
        return reports

    def _check(self, servers: Sequence[McpServer]) -> None:
        for index, server in enumerate(servers):
            try:
                self._servers.check(server)
            except ToolRefused as exc:
                raise _invalid(f"mcp_servers.{index}.url", exc.safe_message) from None

    async def _all_offered(self, servers: Sequence[McpServer]) -> list[Offered]:
        """Raises the first failure when all have answered."""
        found = await asyncio.gather(*map(self._servers.offered, servers), return_exceptions=True)
        offered: list[Offered] = []
        for result in found:
            if isinstance(result, BaseException):
                raise result
            offered.append(result)
        return offered


def _key(server: McpServer, tool: str) -> tuple[str, str, str]:
    return server.name, server.url, tool


def _why_not(offered: Offered, tool: str) -> str:
    problem = offered.refused.get(tool)
    return "does not offer it" if problem is None else f"offers it, but it {problem}"


def _report(server: McpServer, pins: Sequence[McpPin], offered: Offered) -> McpServerReport:
    tools = [_compared(pin, offered) for pin in pins]
    pinned = {pin.definition.name for pin in pins}
    others = sorted(name for name in {*offered.definitions, *offered.refused} if name not in pinned)
    return McpServerReport(
        name=server.name,
        url=server.url,
        protocol_version=offered.protocol_version,
        tools=tools,
        others=others[:MAX_OTHERS],
    )


def _compared(pin: McpPin, offered: Offered) -> PinReport:
    current = offered.definitions.get(pin.definition.name)
    if current is None:
        problem = offered.refused.get(pin.definition.name)
        return PinReport(pin=pin, state=PinState.MISSING if problem is None else PinState.REFUSED, problem=problem)
    if current.digest == pin.digest:
        return PinReport(pin=pin, state=PinState.SAME)
    return PinReport(
        pin=pin,
        state=PinState.CHANGED,
        current=current,
        current_digest=current.digest,
        changes=changes(pin.definition, current),
    )


def _silent(server: McpServer, pins: Sequence[McpPin], problem: str) -> McpServerReport:
    tools = [PinReport(pin=pin, state=PinState.UNKNOWN, problem=problem) for pin in pins]
    return McpServerReport(name=server.name, url=server.url, problem=problem, tools=tools)


def _check_size(pins: Sequence[McpPin]) -> None:
    size = sum(len(orjson.dumps(pin.definition.model_dump(mode="json"))) for pin in pins)
    if size > MAX_PINS_BYTES:
        raise _invalid(
            "mcp_servers", f"the definitions of all tools are larger than {MAX_PINS_BYTES} bytes; name fewer"
        )


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR, f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
