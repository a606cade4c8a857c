"""Pins in a turn's plan: what they let a model call, and what its calls need."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.sessions.agents.agent import Agent, plan_turn
from shared.sessions.approvals.containment import is_contained
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.proposals import Standing, propose
from shared.sessions.approvals.rehearsal import CallToTest, PolicyDecision, rehearsed
from shared.sessions.approvals.rules.in_force import arguments_as_run
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.mcp.definitions import read_definition
from shared.sessions.mcp.pins import pin_of
from shared.sessions.mcp.servers import McpServer
from shared.sessions.models import ApprovalMode, SessionConfig
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.base import READS, InvalidToolArguments, ToolRisk, validate_arguments
from shared.sessions.tools.kinds.pinned import PinnedArguments
from shared.sessions.tools.of_plan import tool_of, tools_of

SCHEMA = {
    "type": "object",
    "properties": {"zone": {"type": "string"}, "a": {"type": "integer"}},
    "required": ["zone"],
    "additionalProperties": False,
}


def plan(rules: dict[str, Any] | None = None, mode: ApprovalMode = ApprovalMode.POLICY, **agent: Any) -> TurnPlan:
    told = {"name": "now", "inputSchema": SCHEMA, "description": "The time", "annotations": {"readOnlyHint": True}}
    server = McpServer.model_validate(
        {
            "name": "time",
            "url": "https://t.example/",
            "tools": ["now"],
            "rules": {} if rules is None else {"now": rules},
        }
    )
    made = Agent(
        id="a",
        version=1,
        name="n",
        instructions="i",
        mcp_servers=[server],
        mcp_pins=[pin_of(server, read_definition(told))],
        **{"tools": ["calculate"], **agent},
    )
    return plan_turn(made, SessionConfig(), model="m", approval_mode=mode)


def test_a_model_is_offered_the_pinned_tools_besides_those_of_the_agent() -> None:
    offered = tools_of(plan())

    assert [tool.name for tool in offered] == ["calculate", "time__now"]
    assert orjson.loads(offered[1].function_schema_json) == {
        "name": "time__now",
        "description": "The time",
        "parameters": SCHEMA,
    }


def test_the_servers_annotations_loosen_nothing() -> None:
    tool = tool_of("time__now", plan())

    assert tool is not None
    assert (tool.approval.value, tool.idempotent, tool.timeout_s) == ("manual", False, 60)
    assert tool.risks == READS | {ToolRisk.ACTS_OUTWARD}


def test_an_admins_rules_do() -> None:
    tool = tool_of("time__now", plan({"approval": "auto", "idempotent": True, "acts_outward": False}))

    assert tool is not None
    assert (tool.approval.value, tool.idempotent) == ("auto", True)
    assert tool.risks == READS, "what a stranger's server returns stays untrusted"


@pytest.mark.parametrize("mode", list(ApprovalMode))
def test_no_mode_lets_a_call_run_that_no_admin_freed(mode: ApprovalMode) -> None:
    assert propose(ModelToolCall("c", "time__now", '{"zone": "x"}'), 0, plan(mode=mode)).needs_approval
    assert not propose(ModelToolCall("c", "calculate", '{"expression": "1"}'), 0, plan()).needs_approval


def test_the_rule_of_two_holds_for_them() -> None:
    of = plan({"approval": "auto"})
    tool = tool_of("time__now", of)

    assert tool is not None
    assert is_contained(tool, {"zone": "x"}, of, frozenset({"time__now"}), ())
    assert not is_contained(tool, {"zone": "x"}, of, frozenset(), ())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"zone": 7}, "zone"),
        ({}, "zone"),
        ({"zone": "x", "b": 1}, "b"),
        ({"zone": "x", "a": 2**70}, "64 bits"),
    ],
)
def test_arguments_are_held_to_the_pinned_schema(arguments: dict[str, Any], said: str) -> None:
    tool = tool_of("time__now", plan())
    assert tool is not None

    with pytest.raises(InvalidToolArguments, match="The arguments of time__now are not valid") as caught:
        validate_arguments(tool, arguments)

    assert said in str(caught.value)


def test_arguments_may_have_any_names() -> None:
    odd = {"model_dump": 1, "model_config": {}, "__class__": "a", "values": [], "a b": None}

    assert PinnedArguments.model_validate(odd).model_dump(by_alias=True) == odd


def test_conditions_of_a_policy_read_the_arguments_as_they_were_written() -> None:
    tool = tool_of("time__now", plan())

    assert arguments_as_run(tool, {"zone": "x", "a": 7}) == {"zone": "x", "a": 7}


@pytest.mark.parametrize(
    ("rules", "decision"),
    [(None, PolicyDecision.WAITS), ({"approval": "auto", "acts_outward": False}, PolicyDecision.RUNS)],
)
def test_what_a_policy_would_do_to_a_call_can_be_tested(rules: dict[str, Any] | None, decision: PolicyDecision) -> None:
    tested = CallToTest.model_validate({"tool": "time__now", "arguments": {"zone": "x"}})

    assert rehearsed(tested, plan(rules)).decision is decision


def test_a_name_of_no_pin_and_no_tool_is_no_tool() -> None:
    proposal = propose(ModelToolCall("c", "time__later", "{}"), 0, plan())

    assert proposal.argument_error == "There is no tool named 'time__later'."


def test_an_approval_is_of_one_definition() -> None:
    of = plan()
    call = ModelToolCall("c", "time__now", '{"zone": "x"}')
    declined = arguments_digest("time__now", {"zone": "x"}, of.definition_of("time__now"))

    assert propose(call, 0, of, Standing(declined_digests=frozenset({declined}))).declined
    assert declined != arguments_digest("time__now", {"zone": "x"})
    assert of.definition_of("calculate") is None


def test_a_plan_survives_the_store_and_old_plans_have_no_pins() -> None:
    of = plan({"timeout_seconds": 5})

    again = TurnPlan.model_validate(orjson.loads(orjson.dumps(of.stored())))

    assert again == of
    assert list(again.mcp["time__now"].definition.input_schema["properties"]) == ["zone", "a"]
    without = {name: value for name, value in of.stored().items() if name != "mcp"}
    assert TurnPlan.model_validate(without).mcp == {}
    assert "mcp" not in of.model_copy(update={"mcp": {}}).stored()
