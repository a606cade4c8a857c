"""The MCP servers of an agent, as an admin writes them.

Invariant: a server is named with the exact names of the tools that may be used. What a server says of its tools loosens
nothing; only an admin does, in `rules`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from yarl import URL

from shared.sessions.models import ToolApproval, Value

MAX_SERVERS = 16
MAX_PINS = 64
"""Tools of all servers of an agent."""
MAX_NAME_CHARS = 64
"""Of a function, for models. Source: OpenAI's API reference, 2026-09."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
# Set by the client or by HTTP itself.
_OWN_HEADERS = re.compile(
    r"(?i)host|connection|content-.*|accept.*|transfer-encoding|te|trailer|upgrade|expect|cookie|user-agent"
    r"|mcp-.*|proxy-.*|sec-.*|x-forwarded-.*|traceparent|tracestate|idempotency-key|metadata.*|x-identity-header"
)


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name) or _OWN_HEADERS.fullmatch(name):
        raise ValueError("is not a header that can carry a credential")
    return name


def _address(text: str) -> str:
    """One parser, yarl, reads it here, for the guard and for the connection."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("holds characters that must be escaped")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if url.scheme not in {"http", "https"} or not host or not port:
        raise ValueError("must be an http or https URL with a host")
    if "@" in text.partition("://")[2].partition("/")[0] or url.user is not None or "#" in text:
        raise ValueError("must hold neither user, password nor fragment")
    if url.scheme == "http" and not _is_own(host):
        raise ValueError("must be https, unless its host is an address or localhost: others could read and change it")
    return text


def _is_own(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return True


type ServerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,23}$")]
type RemoteName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
"""A tool's name at its server. Source of the characters: MCP 2026-07-28, Tools, "Tool Names"."""
type Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class HeaderCredential(Value):
    """A header whose value is the secret of that name (`TOOL_SECRET_<NAME>`)."""

    kind: Literal["header"]
    name: Annotated[str, AfterValidator(_header_name)] = Field(description="Name of the header")
    secret: str = Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$", description="Name of the secret with the header's value")


class IdentityCredential(Value):
    """A bearer token of the app's managed identity."""

    kind: Literal["managed_identity"]
    scope: str = Field(pattern=r"^[!-+\--~]{1,256}$", description="Scope of the token, e.g. `api://crm/.default`")


type Credentials = Annotated[HeaderCredential | IdentityCredential, Field(discriminator="kind")]


class ToolRules(Value):
    """How calls of a server's tool are treated. The defaults are the strictest; only an admin sets others."""

    approval: ToolApproval = Field("manual", description="Approval rule of its calls in mode `policy`")
    idempotent: bool = Field(False, description="A call that was interrupted may run again")
    acts_outward: bool = Field(True, description="Its calls have external side effects (rule of two)")
    timeout_seconds: int = Field(60, ge=1, le=600)


STRICTEST = ToolRules()


class McpServer(Value):
    """A server that speaks MCP over streamable HTTP, and the tools of it that an agent may call."""

    name: ServerName = Field(description="Stands before the names of its tools: `name__tool`")
    url: Annotated[str, AfterValidator(_address)] = Field(max_length=1_000, description="Its MCP endpoint")
    tools: list[RemoteName] = Field(min_length=1, max_length=MAX_PINS, description="Exact names of tools")
    credentials: Credentials | None = Field(None, description="null: none are sent")
    rules: dict[RemoteName, ToolRules] = Field({}, max_length=MAX_PINS, description="By exact name of a tool")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.tools)) < len(self.tools):
            raise ValueError("names a tool twice")
        unknown = sorted(set(self.rules) - set(self.tools))
        if unknown:
            raise ValueError(f"has rules for tools that it does not name: {', '.join(unknown[:5])}")
        for tool in self.tools:
            if len(tool_name(self.name, tool)) > MAX_NAME_CHARS:
                raise ValueError(f"the name {tool_name(self.name, tool)} is longer than {MAX_NAME_CHARS} characters")
        return self

    def rules_of(self, tool: str) -> ToolRules:
        return self.rules.get(tool, STRICTEST)


def tool_name(server: str, tool: str) -> str:
    """The name by which models call a tool: models take no dots."""
    return f"{server}__{tool.replace('.', '_')}"


def distinct(servers: Sequence[McpServer]) -> Sequence[McpServer]:
    """The servers. Raises ValueError for names that a model or a person may take for one another, or too many tools."""
    if len({server.name for server in servers}) < len(servers):
        raise ValueError("two servers have one name")
    names = [tool_name(server.name, tool) for server in servers for tool in server.tools]
    if len(names) > MAX_PINS:
        raise ValueError(f"more than {MAX_PINS} tools of MCP servers")
    alike: dict[str, str] = {}
    for name in names:
        shape = name.casefold().replace("-", "_")
        if shape in alike:
            raise ValueError(f"the tools {alike[shape]} and {name} have names that are too alike")
        alike[shape] = name
    return servers
