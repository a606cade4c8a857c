"""What a million turns cost, on each durable backend and at the published prices of other platforms.

Input: `infra/prices.json` and the resources of a turn (`scale.py`). Without the model, the fixed monthly prices
(`costs.py`) and whatever is free each month.
"""

from __future__ import annotations

from collections.abc import Callable

from devtools.sizing.costs import INSTANCE_GB, prices
from devtools.sizing.scale import Turn, measured, table

LANGSMITH_RUN = 0.005
"""A run of LangSmith Deployment; resuming after an interrupt is a run of its own.
https://docs.langchain.com/langsmith/billing"""
TEMPORAL_ACTION = 50 / 1e6
"""The first tier of Temporal Cloud. A workflow, an activity, a signal and a timer are an action each.
https://docs.temporal.io/cloud/pricing"""
AGENTCORE_VCPU_HOUR = 0.0895
"""Of Amazon Bedrock AgentCore Runtime (v1). https://aws.amazon.com/bedrock/agentcore/pricing"""
_TURNS = 1_000_000


def million_table() -> str:
    """US dollars for a million turns of each kind."""
    price = prices()
    kinds = measured()

    def flex(turn: Turn) -> float:
        compute = turn["work_seconds"] * INSTANCE_GB * price["flex_gb_second"]
        return compute + turn["functions"] * price["flex_million_executions"] / 1e6

    def hub(turn: Turn) -> float:
        return (turn["hub_queue"] * price["queue_10k"] + turn["hub_table"] * price["table_10k"]) / 1e4

    rows: list[tuple[str, Callable[[Turn], float], str]] = [
        ("Flex Consumption, at most", flex, f"as if each turn ran alone on {INSTANCE_GB} GB; turns share instances"),
        ("hub in Storage", hub, "polling is extra"),
        (
            "Scheduler, Consumption",
            lambda turn: turn["queue_messages"] * price["scheduler_action"],
            f"at {price['scheduler_action']} an action, as the retail price list is quoted",
        ),
        (
            "… per dollar that a million actions cost",
            lambda turn: turn["queue_messages"] / 1e6,
            "as the billing page speaks of it, without a number",
        ),
        (
            "*LangSmith Deployment*",
            lambda turn: LANGSMITH_RUN * (1 + turn["pauses"]),
            f"{LANGSMITH_RUN} a run; resuming after what came from outside is a second run",
        ),
        (
            "*Temporal Cloud*",
            lambda turn: TEMPORAL_ACTION * (turn["instances"] + turn["activities"] + 2 * turn["pauses"]),
            "an action for each workflow and activity of ours, and for signal and timer of what comes from outside",
        ),
        (
            "*AgentCore Runtime*, at most",
            lambda turn: turn["work_seconds"] / 3_600 * AGENTCORE_VCPU_HOUR,
            "as if a whole vCPU were busy while a turn runs; waiting for the model is free there; memory is extra",
        ),
    ]
    shown = [[name, *(f"{_TURNS * of(kinds[kind]):,.0f}" for kind in kinds), note] for name, of, note in rows]
    return table(["US dollars", *kinds, "how it is counted"], shown)
