"""The wire model of a tool."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from shared.sessions.models import JsonObject, Value
from shared.sessions.records.approval_policy import ApprovalPolicy


class ToolInfo(Value):
    name: str
    description: str
    parameters: JsonObject
    approval: Literal["auto", "manual"]
    policy: ApprovalPolicy = Field(description="Approval policy of its calls, if the agent sets none")
    idempotent: bool
    risks: list[Literal["reads_untrusted", "reads_private", "acts_outward"]] = Field(
        description="Its risks under the rule of two"
    )
    timeout_seconds: float
