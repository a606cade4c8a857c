"""The workflow ship_order, without a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley.testing import InvalidToolArguments, ToolFailed, read_agent, run_workflow

from ..workflows.ship_order import ship_order


async def test_a_parcel_that_takes_three_days_arrives() -> None:
    told: list[str] = []

    output = await run_workflow(ship_order, {"items": ["kettle", "Espresso machine"], "days": 3}, progress=told)

    assert isinstance(output.data, dict)
    parcel = output.data["parcel"]
    assert output.data == {"parcel": parcel, "items": ["kettle", "Espresso machine"], "status": "delivered"}
    assert told == ["packing", f"{parcel} is on its way"]


async def test_what_is_not_there_is_not_shipped() -> None:
    with pytest.raises(ToolFailed, match="Not in stock: coffee grinder"):
        await run_workflow(ship_order, {"items": ["kettle", "coffee grinder"]})


async def test_a_parcel_that_never_arrives_is_lost() -> None:
    with pytest.raises(ToolFailed, match="was lost"):
        await run_workflow(ship_order, {"items": ["kettle"]}, activities={"has_arrived": lambda _: False})


async def test_an_empty_order_is_refused() -> None:
    with pytest.raises(InvalidToolArguments):
        await run_workflow(ship_order, {"items": []})


def test_the_agent_offers_it() -> None:
    assert "ship_order" in read_agent(Path(__file__).parents[1] / "fulfilment.md").tools
