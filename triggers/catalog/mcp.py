"""The MCP servers of an agent: what they say now beside what is pinned, and accepting what has changed."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.agents.agent import Agent
from shared.sessions.agents.catalog import agent_etag
from shared.sessions.mcp.pinning import AcceptedDefinitions, McpServerReport
from triggers.http.endpoints import Call, Operation, endpoint, ok, page_of_all
from triggers.http.parameters import PAGING, if_match

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/agents/{agent_id}/mcp",
        "compare_agent_mcp",
        "What the MCP servers of an agent offer now, beside its pins",
        "Agents",
        200,
        returns=list[McpServerReport],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def compare_agent_mcp(call: Call, _: None) -> Response:
    """For admins. Asks each server; one that does not answer is a report with its problem."""
    return page_of_all(call, await call.services.agents.compare_mcp(_agent_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/agents/{agent_id}/mcp/accept",
        "accept_agent_mcp",
        "Accept changed definitions as a new version of an agent",
        "Agents",
        200,
        headers=("ETag",),
        body=AcceptedDefinitions,
        returns=Agent,
        parameters=(
            if_match("The `ETag` of the version whose pins are replaced; CONFLICT when there is a newer version"),
        ),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.CONFLICT,
            ErrorCode.TOOL_EXECUTION_FAILED,
            ErrorCode.TOOL_TIMEOUT,
        ),
    ),
)
async def accept_agent_mcp(call: Call, body: AcceptedDefinitions) -> Response:
    """For admins. Names the digest of each definition that was seen; CONFLICT when its server says something else."""
    agent = await call.services.agents.accept_mcp(
        _agent_id(call), body, call.principal, if_match=call.request.headers.get("if-match")
    )
    return ok(agent, headers={"ETag": agent_etag(agent)})


def _agent_id(call: Call) -> str:
    return call.id("agent_id", ErrorCode.SESSION_NOT_FOUND)
