"""Agents: list them, read one, store a new version."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.agents.agent import Agent, NewAgent
from shared.sessions.agents.catalog import agent_etag
from triggers.http.endpoints import Call, Operation, endpoint, invalid_parameter, ok, page_of
from triggers.http.parameters import PAGING, Parameter, if_match

bp = df.Blueprint()

_MAX_VERSION = 2**31 - 1


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/agents",
        "list_agents",
        "Agents to talk to",
        "Agents",
        200,
        returns=list[Agent],
        parameters=PAGING,
    ),
)
async def list_agents(call: Call, _: None) -> Response:
    """The newest version of each, by id; `assistant` is always among them."""
    return page_of(*await call.services.agents.list_for(call.page(int)))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/agents/{agent_id}",
        "get_agent",
        "One agent",
        "Agents",
        200,
        headers=("ETag",),
        returns=Agent,
        parameters=(
            Parameter("version", "The newest by default", {"type": "integer", "minimum": 1, "maximum": _MAX_VERSION}),
        ),
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_agent(call: Call, _: None) -> Response:
    """A version never changes."""
    version = call.query_as("version", int)
    if version is not None and not 1 <= version <= _MAX_VERSION:
        raise invalid_parameter("version", f"must be 1 to {_MAX_VERSION}")
    agent = await call.services.agents.get(_agent_id(call), version)
    return ok(agent, headers={"ETag": agent_etag(agent)})


@endpoint(
    bp,
    Operation(
        "PUT",
        "/api/v1/agents/{agent_id}",
        "put_agent",
        "Create an agent, or a new version of one",
        "Agents",
        200,
        headers=(
            "ETag",
            "Location",
        ),
        body=NewAgent,
        returns=Agent,
        parameters=(
            if_match("The `ETag` of the version that the new one replaces; CONFLICT when there is a newer version"),
        ),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.CONFLICT,
            ErrorCode.TOOL_EXECUTION_FAILED,
            ErrorCode.TOOL_TIMEOUT,
        ),
        also={201: "The agent is new"},
    ),
)
async def put_agent(call: Call, body: NewAgent) -> Response:
    """For admins. An unchanged agent gets no new version. Turns posted earlier keep the version they began with.

    The definitions of tools of MCP servers are read and pinned; those that the newest version pins stay as they are.
    """
    agent, is_new = await call.services.agents.put(
        _agent_id(call), body, call.principal, if_match=call.request.headers.get("if-match")
    )
    headers = {"ETag": agent_etag(agent), "Location": f"/api/v1/agents/{agent.id}"}
    return ok(agent, 201 if is_new else 200, headers)


def _agent_id(call: Call) -> str:
    return call.id("agent_id", ErrorCode.SESSION_NOT_FOUND)
