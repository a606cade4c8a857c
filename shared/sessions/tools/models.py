"""The wire model of a tool."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from shared.sessions.models import JsonObject, ToolApproval, Value
from shared.sessions.records.approval_policy import ApprovalPolicy

type ToolRisk = Literal["reads_untrusted", "reads_private", "acts_outward"]


class ToolInfo(Value):
    name: str
    description: str
    parameters: JsonObject
    approval: ToolApproval
    policy: ApprovalPolicy = Field(description="Approval policy of its calls, if the agent sets none")
    idempotent: bool
    risks: list[ToolRisk] = Field(description="Its risks under the rule of two")
    timeout_seconds: float
    path: str | None = Field(None, description="The file of the app that it came from; null: built in")
