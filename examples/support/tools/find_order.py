"""Looks an order up in the shop's database."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from parley.tools import ToolContext, ToolRefused, ToolRisk, tool

from ._shop import shop

OrderId = Annotated[str, Field(pattern=r"^[A-Z]-\d{1,10}$", description="As printed on the invoice, such as A-1001")]


@tool(idempotent=True, risks=[ToolRisk.READS_PRIVATE])
def find_order(order_id: OrderId, call: ToolContext) -> dict[str, object]:
    """Look up one order of the customer: what was ordered, its state, what it cost and what was paid back."""
    with shop(call).connection() as connection:
        # Whose order it is comes from who is signed in, never from what the model was told.
        order = connection.execute(
            """
            SELECT id, item, state, amount, currency,
                   coalesce((SELECT sum(amount) FROM shop.refunds WHERE order_id = orders.id), 0) AS refunded
            FROM shop.orders
            WHERE id = %s AND customer = %s
            """,
            (order_id, call.caller.user_id),
        ).fetchone()
    if order is None:
        raise ToolRefused(f"The customer has no order {order_id}.")
    return {**order, "amount": float(order["amount"]), "refunded": float(order["refunded"])}
