"""A tool as the wire shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from shared.sessions.models import JsonObject, Value
from shared.sessions.records.policy import ApprovalPolicy


class ToolInfo(Value):
    name: str
    description: str
    parameters: JsonObject
    approval: Literal["auto", "manual"]
    policy: ApprovalPolicy = Field(description="How its calls are allowed where an agent says nothing of them")
    idempotent: bool
    risks: list[Literal["reads_untrusted", "reads_private", "acts_outward"]] = Field(
        description="What it adds to a conversation, for the rule of two"
    )
    timeout_seconds: float
