"""The worked example of docs/policies.md does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import Field

from shared.sessions.agents.agent import DEFAULT_AGENT, NewAgent, plan_as_posted
from shared.sessions.approvals.grants import bound_values, grant_of, is_granted
from shared.sessions.approvals.needed import requires_approval
from shared.sessions.approvals.rules.in_force import (
    in_force,
)
from shared.sessions.models import ApprovalMode
from shared.sessions.tools.registry import ToolApproval, ToolArguments, ToolContext, ToolOutput, tool

PAGE = (Path(__file__).resolve().parents[3] / "docs/policies.md").read_text("utf-8")
EXAMPLE = orjson.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])  # type: ignore[index]


class Account(ToolArguments):
    country: str | None = None


class RefundArguments(ToolArguments):
    customer_id: str
    amount: float | None = None
    account: Account = Field(default=Account())


@tool(approval=ToolApproval.MANUAL, idempotent=False)
async def refund(arguments: RefundArguments, call: ToolContext) -> ToolOutput:
    """Pay a customer back."""
    raise NotImplementedError


AGENT = NewAgent.model_validate({"name": "Support", "instructions": "Help."} | EXAMPLE)
POLICY = AGENT.policies["refund"]
PLAN = plan_as_posted(
    DEFAULT_AGENT.model_copy(update={"policies": AGENT.policies, "approval_floor": AGENT.approval_floor}),
    ApprovalMode.AUTO,
)
ONE, TWO, LEGAL = ("From 100 on", "approver", 1), ("Large refund", "finance", 2), ("Abroad", "legal", 1)


def _call(amount: Any = 40, country: Any = "DE", customer: str = "c1") -> dict[str, Any]:
    return {"customer_id": customer, "amount": amount, "account": {"country": country}}


def _takes(arguments: dict[str, Any]) -> list[tuple[str | None, str, int]]:
    force = in_force(POLICY, refund, arguments)
    if not requires_approval(refund, PLAN, force):
        return []
    return [(one.rule, one.roles[0], one.quorum) for one in force.requirements]


@pytest.mark.parametrize(
    ("arguments", "takes"),
    [
        (_call(40), []),
        (_call(99.99), []),
        (_call(100), [ONE]),
        (_call(1000), [ONE]),
        (_call(5000), [ONE, TWO]),
        (_call("5000"), [ONE, TWO]),
        (_call(40, "FR"), [LEGAL]),
        (_call(5000, "FR"), [ONE, TWO, LEGAL]),
        (_call(None), [ONE, TWO]),
        ({"customer_id": "c1"}, [ONE, TWO, LEGAL]),
        (_call("a lot"), [ONE, TWO]),
        (_call(2**60), [ONE, TWO]),
        (_call(40, "de"), [LEGAL]),
        (_call(40, "D\u0415"), [LEGAL]),
        (_call(40, None), [LEGAL]),
    ],
    ids=str,
)
def test_each_refund_takes_what_the_table_says(arguments: dict[str, Any], takes: list[Any]) -> None:
    assert _takes(arguments) == takes


@pytest.mark.parametrize(
    ("wanted", "runs"), [(_call(120), True), (_call(120, customer="c2"), False), (_call(5000), False)], ids=str
)
def test_a_grant_is_for_one_customer_and_for_small_sums(wanted: dict[str, Any], runs: bool) -> None:
    force = in_force(POLICY, refund, _call(150))
    values = bound_values(force.policy, refund, _call(150))
    grant = grant_of("refund", force.policy, PLAN.agent_id, PLAN.agent_version, "ann", values)

    now = in_force(POLICY, refund, wanted)
    assert is_granted(refund, wanted, PLAN, now, "ann", frozenset({grant})) is runs


def test_finance_decides_instead_where_the_first_rule_ends() -> None:
    first, *rest = EXAMPLE["policies"]["refund"]["rules"]
    tiers = EXAMPLE["policies"]["refund"] | {"rules": [first | {"when": first["when"] | {"le": 1000}}, *rest]}
    body = {"name": "n", "instructions": "i", "policies": {"refund": tiers}}
    policy = NewAgent.model_validate(body).policies["refund"]

    assert [one.rule for one in in_force(policy, refund, _call(5000)).requirements] == ["Large refund"]
    assert [one.rule for one in in_force(policy, refund, _call(500)).requirements] == ["From 100 on"]


def test_the_page_names_every_field_of_a_rule_and_of_a_condition() -> None:
    schema = orjson.loads(orjson.dumps(NewAgent.model_json_schema()))["$defs"]
    for model in ("RuleEffect", "Comparison", "ApprovalRule", "AllOfThem", "AnyOfThem", "NoneOfThem"):
        for name in schema[model]["properties"]:
            assert f"`{name}" in PAGE or f'"{name}"' in PAGE, name
