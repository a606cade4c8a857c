"""The support agent and its tools, on a real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from parley.testing import InvalidToolArguments, ToolFailed, ToolRefused, call_tool, read_agent
from parley.tools import ToolOutput

from ..tools.ask_warehouse import ask_warehouse
from ..tools.find_order import find_order
from ..tools.refund import refund

FOLDER = Path(__file__).parents[1]
pytest_plugins = ["tests.support.servers"]


@pytest.fixture(scope="module")
def shop(empty_postgres_url: str) -> dict[str, str]:
    """The secrets of the tools: the address of a database with the shop of dev.sql."""
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        for _ in range(2):  # it runs at every start
            connection.execute((FOLDER / "dev.sql").read_bytes())
    return {"SHOP_DATABASE_URL": empty_postgres_url}


async def pay(arguments: dict[str, object], shop: dict[str, str], **call: str) -> ToolOutput:
    """A refund to the user `dev` by the support agent, unless `call` says otherwise."""
    return await call_tool(refund, arguments, user_id="dev", secrets=shop, **{"agent_id": "support"} | call)


def paid(shop: dict[str, str], order_id: str) -> list[tuple[str, float]]:
    with psycopg.connect(shop["SHOP_DATABASE_URL"]) as connection:
        rows = connection.execute(
            "SELECT key, amount FROM shop.refunds WHERE order_id = %s ORDER BY key", (order_id,)
        ).fetchall()
    return [(key, float(amount)) for key, amount in rows]


async def test_a_customer_finds_their_own_order_and_nobody_elses(shop: dict[str, str]) -> None:
    found = await call_tool(find_order, {"order_id": "A-1002"}, user_id="dev", secrets=shop)

    assert found.data == {
        "id": "A-1002",
        "item": "Coffee grinder",
        "state": "on its way",
        "amount": 189.0,
        "currency": "EUR",
        "refunded": 0.0,
    }
    for order_id, user_id in (("A-1002", "mallory"), ("A-1003", "dev"), ("Z-1", "dev")):
        with pytest.raises(ToolRefused, match="has no order"):
            await call_tool(find_order, {"order_id": order_id}, user_id=user_id, secrets=shop)


@pytest.mark.parametrize("order_id", ["", "A-1002' OR 1=1 --", "A-" + "1" * 11, "A-1002\n"])
async def test_what_is_no_order_id_never_reaches_the_database(order_id: str) -> None:
    with pytest.raises(InvalidToolArguments):
        await call_tool(find_order, {"order_id": order_id}, user_id="dev")


async def test_a_call_that_runs_twice_pays_once(shop: dict[str, str]) -> None:
    arguments = {"order_id": "A-1001", "amount": 100, "reason": "Scratched"}

    for _ in range(2):
        output = await pay(arguments, shop, tool_call_id="once")
        assert output.content == "100.00 EUR were paid back for the order A-1001."

    assert paid(shop, "A-1001") == [("once", 100.0)]
    found = await call_tool(find_order, {"order_id": "A-1001"}, user_id="dev", secrets=shop)
    assert isinstance(found.data, dict)
    assert found.data["refunded"] == 100.0


async def test_refunds_at_once_never_pay_more_than_the_order_cost(shop: dict[str, str]) -> None:
    arguments = {"order_id": "A-1002", "amount": 100, "reason": "Too late"}

    ends = await asyncio.gather(
        *(pay(arguments, shop, tool_call_id=f"at-once-{n}") for n in range(4)),
        return_exceptions=True,
    )

    assert sum(not isinstance(end, Exception) for end in ends) == 1
    assert {end.safe_message for end in ends if isinstance(end, ToolRefused)} == {
        "Only 89.00 EUR of the order A-1002 can be paid back."
    }
    assert [amount for _, amount in paid(shop, "A-1002")] == [100.0]


async def test_a_refund_of_somebody_elses_order_is_refused(shop: dict[str, str]) -> None:
    with pytest.raises(ToolRefused, match="has no order"):
        await pay({"order_id": "A-1003", "amount": 1, "reason": "Mine"}, shop)
    assert paid(shop, "A-1003") == []


async def test_no_other_agent_pays_refunds_under_its_own_policy(shop: dict[str, str]) -> None:
    with pytest.raises(ToolRefused, match="by the agent support only"):
        await pay({"order_id": "A-1001", "amount": 1, "reason": "Please"}, shop, agent_id="assistant")


@pytest.mark.parametrize("amount", [0.07, 19.99, 1200, 9999.99])
def test_amounts_in_cents_are_accepted(amount: float) -> None:
    given = {"order_id": "A-1001", "amount": amount, "reason": "Because"}
    assert refund.arguments_model.model_validate(given).model_dump()["amount"] == amount


@pytest.mark.parametrize("amount", [0, -5, 10_001, 0.001, "a lot"])
async def test_an_amount_that_cannot_be_paid_is_refused_before_anybody_is_asked(amount: object) -> None:
    with pytest.raises(InvalidToolArguments):
        await call_tool(refund, {"order_id": "A-1001", "amount": amount, "reason": "Because"}, user_id="dev")


async def test_the_warehouse_is_asked_about_the_customers_own_orders(shop: dict[str, str]) -> None:
    question = {"order_id": "A-1003", "question": "Is it back?"}
    with pytest.raises(ToolRefused):
        await call_tool(ask_warehouse, question, user_id="dev", secrets=shop)
    with psycopg.connect(shop["SHOP_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM shop.questions").fetchone() == (0,)


async def test_without_its_secret_a_tool_says_which_setting_is_missing() -> None:
    with pytest.raises(ToolFailed, match="TOOL_SECRET_SHOP_DATABASE_URL is not set"):
        await call_tool(find_order, {"order_id": "A-1001"}, user_id="dev")


def test_no_refund_goes_without_a_person_and_a_large_one_takes_two_of_finance() -> None:
    agent = read_agent(FOLDER / "support.md")
    policy = agent.policies["refund"]

    assert agent.tools == ["find_order", "refund", "ask_warehouse", "current_time"]
    assert (policy.required, policy.forbid_self_approval, policy.quorum) == (True, True, 1)
    assert agent.approval_floor["refund"] == "policy"
    (rule,) = policy.rules
    assert (rule.when.argument, rule.when.gt, rule.then.roles, rule.then.quorum) == ("amount", 1000, ["finance"], 2)
