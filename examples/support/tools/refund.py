"""Pays money back for an order. What the agent's policy says decides how many people approve it first."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from parley.tools import ToolContext, ToolRefused, ToolRisk, tool

from ._shop import shop
from .find_order import OrderId

AGENT = "support"
"""A policy is its agent's. So that no other agent that offers all tools pays refunds under a looser one."""

Amount = Annotated[float, Field(gt=0, le=10_000, multiple_of=0.01, description="In the order's currency")]
Reason = Annotated[str, Field(min_length=3, max_length=300, description="Why, in the customer's words")]


@tool(idempotent=True, risks=[ToolRisk.ACTS_OUTWARD], timeout_s=20)
def refund(order_id: OrderId, amount: Amount, reason: Reason, call: ToolContext) -> str:
    """Pay money back to the customer for one of their orders, at most what it cost."""
    if call.caller.agent_id != AGENT:
        raise ToolRefused(f"Refunds are paid by the agent {AGENT} only: its policy says who approves them.")
    with shop(call).connection() as connection, connection.transaction():
        # One refund of an order at a time; another one waits here and then sees what was paid.
        order = connection.execute(
            "SELECT amount, currency FROM shop.orders WHERE id = %s AND customer = %s FOR UPDATE",
            (order_id, call.caller.user_id),
        ).fetchone()
        if order is None:
            raise ToolRefused(f"The customer has no order {order_id}.")
        # A call may run twice, after a crash: its key is stored with the payment, and the second run changes nothing.
        known = connection.execute("SELECT 1 FROM shop.refunds WHERE key = %s", (call.idempotency_key,)).fetchone()
        if known is None:
            paid = connection.execute(
                "SELECT coalesce(sum(amount), 0) AS paid FROM shop.refunds WHERE order_id = %s", (order_id,)
            ).fetchone()
            left = float(order["amount"]) - float(paid["paid"] if paid else 0)
            if amount > left:
                raise ToolRefused(f"Only {left:.2f} {order['currency']} of the order {order_id} can be paid back.")
            connection.execute(
                "INSERT INTO shop.refunds (key, order_id, amount, reason) VALUES (%s, %s, %s, %s)",
                (call.idempotency_key, order_id, amount, reason),
            )
    return f"{amount:.2f} {order['currency']} were paid back for the order {order_id}."
