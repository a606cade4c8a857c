"""What our policy makes of a model's tool calls, however hostile."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.proposals import propose
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import ApprovalMode, SessionConfig
from shared.sessions.records.plan import TurnPlan


def _plan(mode: ApprovalMode = ApprovalMode.POLICY, *, tools: list[str] | None = None) -> TurnPlan:
    plan = plan_turn(DEFAULT_AGENT, SessionConfig(), model="m", approval_mode=mode)
    return plan if tools is None else plan.model_copy(update={"tools": tools})


_GOOD = {"calculate": '{"expression": "1 + 1"}', "http_request": '{"method": "GET", "url": "http://example.test/"}'}


@pytest.mark.parametrize(
    ("mode", "calculate", "request_waits"),
    [(ApprovalMode.AUTO, False, True), (ApprovalMode.MANUAL, True, True), (ApprovalMode.POLICY, False, True)],
)
def test_who_waits_for_a_person(mode: ApprovalMode, calculate: bool, request_waits: bool) -> None:
    waits = {name: propose(ModelToolCall("id", name, _GOOD[name]), 0, _plan(mode)).needs_approval for name in _GOOD}

    assert waits == {"calculate": calculate, "http_request": request_waits}


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("calculate", "{", "not valid JSON"),
        ("calculate", "[1]", "JSON object"),
        ("calculate", '{"expression": "\\u0000"}', "U+0000"),
        ("calculate", "{}", "expression"),
        ("calculate", '{"expression": "1", "extra": 1}', "extra"),
        ("calculate", '{"a":' * 100 + "1" + "}" * 100, "deeply"),
        ("calculate", '{"a":' * 5_000 + "1" + "}" * 5_000, ""),
        ("no_such_tool", "{}", "no tool named"),
        ("__import__", '{"x": 1}', "no tool named"),
        ("", "{}", "no tool named"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_call_that_cannot_run_says_why_and_waits_for_nobody(name: str, arguments: str, error: str) -> None:
    proposal = propose(ModelToolCall("id", name, arguments), 0, _plan(ApprovalMode.MANUAL))

    assert proposal.argument_error is not None
    assert error in proposal.argument_error
    assert proposal.needs_approval is False


def test_a_tool_the_turn_was_not_given_does_not_exist() -> None:
    proposal = propose(ModelToolCall("id", "http_request", _GOOD["http_request"]), 0, _plan(tools=["calculate"]))

    assert "no tool named" in (proposal.argument_error or "")


@pytest.mark.parametrize("arguments", [_GOOD["http_request"], '{"method": "GET", "url": "http://exa'])
def test_a_call_that_was_cut_says_so_and_waits_for_nobody(arguments: str) -> None:
    """Also when it is whole by accident: more of it may have been coming."""
    cut = ModelToolCall("id", "http_request", arguments, is_cut=True)

    proposal = propose(cut, 0, _plan(ApprovalMode.MANUAL))

    assert "cut at the output limit" in (proposal.argument_error or "")
    assert "shorter" in (proposal.argument_error or "")
    assert (proposal.needs_approval, proposal.contained, proposal.declined) == (False, False, False)
    assert propose(replace(cut, name="telepathy"), 0, _plan()).argument_error == "There is no tool named 'telepathy'."


@given(
    name=st.sampled_from(["calculate", "http_request", "current_time"]) | st.text(max_size=100),
    arguments=st.text(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ).map(json.dumps),
)
def test_whatever_a_model_writes_can_be_stored(name: str, arguments: str) -> None:
    proposal = propose(ModelToolCall("id", name, arguments), 3, _plan())

    assert len(proposal.name) <= 64
    assert proposal.ordinal == 3
    assert isinstance(proposal.arguments, dict)
    encoded = orjson.dumps([proposal.arguments])
    assert b"\\u0000" not in encoded
    arguments_digest(proposal.name, proposal.arguments)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1.0}, {"a": 1}, True),
        ({"a": -0.0}, {"a": 0}, True),
        ({"a": 1e17}, {"a": 10**17}, True),
        ({"a": {"x": [1.0, {"y": 2.0}]}}, {"a": {"x": [1, {"y": 2}]}}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 2**53}, {"a": 2**53 + 1}, False),
        ({"a": None}, {}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": "\u00e9"}, {"a": "e\u0301"}, False),
    ],
)
def test_a_digest_binds_the_value_and_not_its_spelling(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert (arguments_digest("t", one) == arguments_digest("t", other)) is same
    assert arguments_digest("t", one) != arguments_digest("u", one)
