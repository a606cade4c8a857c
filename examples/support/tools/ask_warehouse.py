"""Asks the warehouse about a parcel. Somebody there answers, within hours: the call waits for it without a process."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from parley.tools import Later, ToolContext, ToolRefused, ToolRisk, tool

from ._shop import shop
from .find_order import OrderId

Question = Annotated[str, Field(min_length=3, max_length=300, description="What the warehouse shall look at")]


@tool(idempotent=True, risks=[ToolRisk.READS_PRIVATE])
def ask_warehouse(order_id: OrderId, question: Question, call: ToolContext) -> Later:
    """Ask the warehouse about the parcel of an order, such as whether it came back. The answer takes some hours."""
    with shop(call).connection() as connection, connection.transaction():
        asked = connection.execute(
            """
            INSERT INTO shop.questions (key, order_id, question, answer_url, answer_token)
            SELECT %s, id, %s, %s, %s FROM shop.orders WHERE id = %s AND customer = %s
            ON CONFLICT (key) DO UPDATE SET answer_token = EXCLUDED.answer_token
            """,
            (
                call.idempotency_key,
                question,
                call.completion.url,
                call.completion.token,
                order_id,
                call.caller.user_id,
            ),
        )
    if asked.rowcount == 0:
        raise ToolRefused(f"The customer has no order {order_id}.")
    return Later(timeout_s=3 * 86_400)
