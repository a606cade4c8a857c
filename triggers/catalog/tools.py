"""The tools that a model may call, for people and consoles."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.sessions.approvals.needed import default_policy
from shared.sessions.tools.models import ToolInfo
from shared.sessions.tools.registry import ToolRisk, all_tools, path_of, ready
from triggers.http.endpoints import Call, Operation, endpoint, page_of_all
from triggers.http.parameters import PAGING

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/tools",
        "list_tools",
        "Tools a model may call",
        "Tools",
        200,
        returns=list[ToolInfo],
        parameters=PAGING,
    ),
)
async def list_tools(call: Call, _: None) -> Response:
    """Each with name, description, JSON schema, approval policy, idempotency and time limit."""
    await ready()
    items = [
        ToolInfo(
            name=tool.name,
            description=tool.description,
            parameters=tool.parameters,
            approval=tool.approval.value,
            policy=default_policy(tool),
            idempotent=tool.idempotent,
            risks=[risk.value for risk in ToolRisk if risk in tool.risks],
            timeout_seconds=tool.timeout_s,
            path=path_of(tool.name),
        )
        for tool in all_tools()
    ]
    return page_of_all(call, items)
