"""The MCP servers of an agent: what an admin may write."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.sessions.agents.agent import NewAgent
from shared.sessions.mcp.servers import STRICTEST, McpServer, tool_name

URL = "https://mcp.example/mcp"


def server(**changes: object) -> McpServer:
    return McpServer.model_validate({"name": "time", "url": URL, "tools": ["now"], **changes})


def agent(*servers: McpServer) -> NewAgent:
    return NewAgent(name="n", instructions="i", mcp_servers=list(servers))


def test_models_call_a_tool_by_its_servers_name_and_its_own() -> None:
    assert tool_name("crm", "notes.add") == "crm__notes_add"


def test_without_an_admins_rules_a_tool_is_treated_as_the_worst() -> None:
    assert server().rules_of("now") == STRICTEST
    assert (STRICTEST.approval, STRICTEST.idempotent, STRICTEST.acts_outward) == ("manual", False, True)


@pytest.mark.parametrize(
    "name",
    [
        "now\u202e",  # reverses what is read after it
        "n\u043ew",  # a Cyrillic letter in the middle
        "now\u200b",
        "now\x00",
        "no w",
        "",
        "n" * 129,
    ],
)
def test_a_name_of_other_characters_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        server(tools=[name])


@pytest.mark.parametrize(
    "url",
    [
        "http://mcp.example/mcp",  # whoever is in between could change a definition
        "https://user:secret@mcp.example/mcp",
        "https://mcp.example@evil.example/mcp",
        "https://mcp.example/mcp#part",
        "ftp://mcp.example/",
        "https:///mcp",
        "https://m\u0441p.example/",
        "https://mcp.example/a b",
        "https://mcp.example:0/",
        "https://mcp.example:99999/",
    ],
)
def test_an_address_that_is_not_what_it_seems_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        server(url=url)


@pytest.mark.parametrize("url", ["http://localhost:3000/mcp", "http://127.0.0.1/mcp", "http://[::1]:80/mcp"])
def test_an_address_of_the_operators_own_network_needs_no_certificate(url: str) -> None:
    assert server(url=url).url == url


@pytest.mark.parametrize(
    "name", ["Host", "cookie", "Mcp-Session-Id", "X-Forwarded-For", "content-type", "a b", "Metadata"]
)
def test_a_credential_takes_no_header_of_the_protocol(name: str) -> None:
    with pytest.raises(ValidationError, match="credential"):
        server(credentials={"kind": "header", "name": name, "secret": "TOKEN"})


def test_a_credential_is_named_and_never_written() -> None:
    named = server(credentials={"kind": "header", "name": "Authorization", "secret": "CRM_TOKEN"})

    assert named.model_dump(mode="json")["credentials"] == {
        "kind": "header",
        "name": "Authorization",
        "secret": "CRM_TOKEN",
    }


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (server(), server(tools=["later"]), "two servers have one name"),
        (server(tools=["a.b"]), server(name="time2", tools=["x"]), None),
        (server(tools=["a.b", "a_b"]), server(name="other"), "too alike"),
        (server(tools=["read-it", "read_it"]), server(name="other"), "too alike"),
        (server(tools=["Now", "now"]), server(name="other"), "too alike"),
    ],
)
def test_names_that_are_taken_for_one_another_are_refused(
    first: McpServer, second: McpServer, message: str | None
) -> None:
    if message is None:
        assert agent(first, second).mcp_servers == [first, second]
        return
    with pytest.raises(ValidationError, match=message):
        agent(first, second)


def test_a_name_longer_than_models_take_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=f"time__{'n' * 59} is longer than 64"):
        server(tools=["n" * 59])


def test_rules_are_for_tools_that_are_named() -> None:
    with pytest.raises(ValidationError, match="does not name: later"):
        server(rules={"later": {"approval": "auto"}})


def test_a_tool_is_named_once() -> None:
    with pytest.raises(ValidationError, match="names a tool twice"):
        server(tools=["now", "now"])
