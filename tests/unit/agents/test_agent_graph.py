"""Which agents may call which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from shared.sessions.agents.agent import Agent, NewAgent, faults_of
from shared.sessions.agents.below import AgentPins
from shared.sessions.agents.graph import MAX_BELOW, MAX_DEPTH, agent_faults, handover_faults
from shared.sessions.tools.kinds.subagents import subagent_tool

CHAIN = {"a": ["b"], "b": ["c"], "c": ["d"], "d": []}


def wide(each: int) -> dict[str, Sequence[str]]:
    """`top` may call `each` agents, of which each may call `each` others."""
    middle = [f"m{number}" for number in range(each)]
    leaves = {name: [f"{name}-{number}" for number in range(each)] for name in middle}
    return {**leaves, **{leaf: [] for names in leaves.values() for leaf in names}}


@pytest.mark.parametrize(
    ("agent_id", "agents", "edges", "said"),
    [
        ("a", ["b"], {"b": []}, []),
        ("a", ["b", "x"], {"b": []}, [(1, "there is no agent x")]),
        ("a", ["a"], {}, [(0, "it would call itself: a -> a")]),
        ("c", ["a"], {"a": ["b"], "b": ["c"]}, [(0, "it would call itself: c -> a -> b -> c")]),
        # Its stored list does not count: the new one replaces it.
        ("a", ["b"], {"a": ["c"], "b": []}, []),
        ("top", ["a"], CHAIN, [(0, "4 agents would be below top, one under the other; 3 may be")]),
        ("d", ["e"], {**CHAIN, "e": []}, [(0, "a calls d: more than 3 agents would be below it, one under the other")]),
        ("top", ["m0", "m1", "m2", "m3", "m4"], wide(5), []),  # 5 + 25 = 30
        ("top", [f"m{number}" for number in range(6)], wide(6), [(0, "more than 32 agents would be below top")]),
    ],
)
def test_what_is_wrong_is_said_by_name(
    agent_id: str, agents: list[str], edges: Mapping[str, Sequence[str]], said: list[tuple[int, str]]
) -> None:
    assert (MAX_DEPTH, MAX_BELOW) == (3, 32)
    assert agent_faults(agent_id, agents, edges) == said


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (["help.desk", "help-desk"], "help-desk has the same name ask_help_desk"),
        (["x" * 61], f"the name ask_{'x' * 61} has more than 64 characters"),
    ],
)
def test_names_that_models_could_not_tell_apart_are_refused(agents: list[str], said: str) -> None:
    faults = faults_of(NewAgent(name="A", instructions="A.", agents=agents))
    assert [(fault.place, fault.text) for fault in faults] == [(("agents", 0), said)]


def test_the_function_of_an_agent_may_have_a_policy() -> None:
    body = {"name": "A", "instructions": "A.", "agents": ["helper"], "approval_floor": {"ask_helper": "manual"}}
    assert faults_of(NewAgent.model_validate(body)) == []


def test_who_works_in_the_background_may_be_called() -> None:
    body = {"name": "A", "instructions": "A.", "agents": ["helper"], "background_agents": ["other", "helper"]}
    (fault,) = faults_of(NewAgent.model_validate(body))
    assert (fault.place, fault.text) == (("background_agents", 0), "other is not one of `agents`")


class TestPins:
    @staticmethod
    def pins(**agents: list[str]) -> AgentPins:
        async def newest(agent_id: str) -> Agent | None:
            if agent_id not in agents:
                return None
            return Agent(id=agent_id, version=7, name=agent_id, instructions="A.", agents=agents[agent_id])

        return AgentPins(newest)

    async def test_all_below_are_pinned_in_their_newest_versions(self) -> None:
        top = Agent(id="top", version=1, name="Top", instructions="A.", agents=["a", "b"])

        found = await self.pins(a=["c"], b=[], c=[]).below(top)

        assert {name: one.version for name, one in found.items()} == {"ask_a": 7, "ask_b": 7}
        assert list(found["ask_a"].agents) == ["ask_c"]

    async def test_only_the_agent_that_a_person_asks_lets_others_work_in_the_background(self) -> None:
        top = Agent(id="top", version=1, name="Top", instructions="A.", agents=["a", "b"], background_agents=["a"])
        a = Agent(id="a", version=7, name="A", instructions="A.", agents=["c"], background_agents=["c"])
        others = {one: Agent(id=one, version=7, name=one, instructions="A.") for one in ("b", "c")}

        async def newest(agent_id: str) -> Agent | None:
            return {"a": a, **others}.get(agent_id)

        found = await AgentPins(newest).below(top)

        assert {name: one.background for name, one in found.items()} == {"ask_a": True, "ask_b": False}
        assert found["ask_a"].agents["ask_c"].background is False
        assert "works in the background" in subagent_tool("ask_a", found["ask_a"]).description
        assert "wait for its answer" in subagent_tool("ask_b", found["ask_b"]).description

    async def test_one_that_is_gone_and_a_circle_of_two_writers_at_once_are_left_out(self) -> None:
        top = Agent(id="top", version=1, name="Top", instructions="A.", agents=["a", "gone"])

        found = await self.pins(a=["top", "b"], b=["a"]).below(top)

        assert list(found) == ["ask_a"]
        assert list(found["ask_a"].agents) == ["ask_b"]
        assert found["ask_a"].agents["ask_b"].agents == {}

    async def test_those_to_whom_it_may_hand_over_are_pinned_without_what_is_below_them(self) -> None:
        top = Agent(id="top", version=1, name="Top", instructions="A.", hands_over_to=["help.desk", "gone"])

        found = await self.pins(**{"help.desk": ["b"], "b": []}).after(top)

        assert {name: (one.id, one.version) for name, one in found.items()} == {
            "hand_over_to_help_desk": ("help.desk", 7)
        }
        assert found["hand_over_to_help_desk"].agents == {}


def test_what_is_wrong_with_handovers_is_said_by_place() -> None:
    assert handover_faults("a", ["b", "a", "c"], {"b": ["a"]}) == [
        (1, "it would hand over to itself"),
        (2, "there is no agent c"),
    ]
