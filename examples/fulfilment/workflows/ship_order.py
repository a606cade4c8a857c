"""Ships an order: packs it, hands it to the carrier, and waits for days if need be until it has arrived.

Plain Durable Functions code. Nothing of it keeps a process while it waits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from datetime import timedelta
from typing import Annotated, Any

import azure.durable_functions as df
from pydantic import Field

from parley.workflows import ToolArguments, ToolFailed, ToolRisk, caller_of, progress, workflow

bp = df.Blueprint()

LOOKS = 20
"""A parcel that has not arrived after as many looks is lost."""
STOCK = {"espresso machine": 3, "coffee grinder": 0, "kettle": 12}
"""What a warehouse would be asked."""


class ShipOrder(ToolArguments):
    items: Annotated[list[str], Field(min_length=1, max_length=10, description="What to send, such as 'kettle'")]
    days: Annotated[int, Field(ge=0, le=20, description="How long the carrier takes, in days")] = 0


@bp.orchestration_trigger(context_name="context")
@workflow(arguments=ShipOrder, risks=[ToolRisk.ACTS_OUTWARD], timeout_s=30 * 86_400)
def ship_order(context: df.DurableOrchestrationContext) -> Generator[Any, Any, dict[str, Any]]:
    """Pack items and ship them to the customer. It takes as long as the parcel does."""
    order = context.get_input()
    missing = yield context.task_all([context.call_activity("find_missing", item) for item in order["items"]])
    if any(missing):
        raise ToolFailed(f"Not in stock: {', '.join(item for item in missing if item)}.")
    yield progress(context, "packing", 0.25)
    parcel = yield context.call_activity(
        "pack_parcel", {"key": context.instance_id, "customer": caller_of(context).user_id, "items": order["items"]}
    )
    yield progress(context, f"{parcel} is on its way", 0.5)
    arrived = yield context.call_sub_orchestrator("follow_parcel", {"parcel": parcel, "days": order["days"]})
    if not arrived:
        raise ToolFailed(f"The parcel {parcel} was lost.")
    return {"parcel": parcel, "items": order["items"], "status": "delivered"}


@bp.orchestration_trigger(context_name="context")
def follow_parcel(context: df.DurableOrchestrationContext) -> Generator[Any, Any, bool]:
    """Look once a day. True when it has arrived."""
    given = context.get_input()
    for day in range(LOOKS):
        if (yield context.call_activity("has_arrived", given | {"day": day})):
            return True
        yield context.create_timer(context.current_utc_datetime + timedelta(days=1))
    return False


@bp.activity_trigger(input_name="item")
def find_missing(item: str) -> str | None:
    """The item, if there is none of it."""
    return None if STOCK.get(item.casefold(), 0) > 0 else item


@bp.activity_trigger(input_name="parcel")
def pack_parcel(parcel: dict[str, Any]) -> str:
    """An activity may run twice: the key makes one parcel of it."""
    return f"parcel-{hashlib.sha256(parcel['key'].encode()).hexdigest()[:8]}"


@bp.activity_trigger(input_name="look")
def has_arrived(look: dict[str, Any]) -> bool:
    """What a carrier would be asked."""
    return bool(look["day"] >= look["days"])
