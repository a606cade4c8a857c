"""Testing an approval policy: what would happen to a tool call, and why."""

from __future__ import annotations

from typing import Annotated, Self

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import Field, StringConstraints, model_validator

from shared.errors import ErrorCode
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, NewAgent, plan_as_posted
from shared.sessions.agents.catalog import check_agent
from shared.sessions.approvals.rehearsal import CallToTest, PolicyTest, rehearsed
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.tools.registry import ready
from triggers.http.endpoints import Call, Operation, endpoint, ok

bp = df.Blueprint()


class NewPolicyTest(CallToTest):
    """Body of `POST /policies/test`."""

    agent_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Test its newest version; null, and no `agent`: the built-in agent"
    )
    agent: NewAgent | None = Field(None, description="Test this draft instead")
    policy: ApprovalPolicy | None = Field(None, description="Instead of the agent's policy for the tool")

    @model_validator(mode="after")
    def _one_agent(self) -> Self:
        if self.agent_id is not None and self.agent is not None:
            raise ValueError("name an agent or send a draft of one")
        return self


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/policies/test",
        "test_policy",
        "What would happen to a tool call",
        "Approvals",
        200,
        body=NewPolicyTest,
        returns=PolicyTest,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def test_policy(call: Call, body: NewPolicyTest) -> Response:
    """Whether it would run, wait or be refused, what requires that, and what approving it would take. Runs nothing and
    stores nothing. For everyone signed in, as reading agents is."""
    await ready()
    agent = await _agent(call, body)
    if body.policy is not None:
        agent = agent.model_copy(update={"policies": {**agent.policies, body.tool: body.policy}})
        check_agent(agent)
    return ok(rehearsed(body, plan_as_posted(agent, body.approval_mode)))


async def _agent(call: Call, body: NewPolicyTest) -> Agent:
    if body.agent is None:
        return await call.services.agents.get(body.agent_id or DEFAULT_AGENT.id)
    check_agent(body.agent)
    return Agent.model_validate(dict(body.agent) | {"id": "draft", "version": 1})
