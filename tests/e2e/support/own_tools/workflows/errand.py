"""A workflow that tells whoever listens at `notify` what it does, and waits in between."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import timedelta
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import azure.durable_functions as df

from parley.workflows import ToolArguments, caller_of, progress, workflow

bp = df.Blueprint()


class Errand(ToolArguments):
    notify: str
    seconds: float = 0
    waits_for: str | None = None


@bp.orchestration_trigger(context_name="context")
@workflow(arguments=Errand, risks=(), timeout_s=3_600)
def errand(context: df.DurableOrchestrationContext) -> Generator[Any, Any, dict[str, Any]]:
    """Run an errand."""
    given = context.get_input()
    yield progress(context, "on the way", 0.5)
    told = {"url": given["notify"], "key": context.instance_id, "who": caller_of(context).user_id}
    yield context.call_activity("tell", {**told, "what": "begun"})
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=given["seconds"]))
    below = yield context.call_sub_orchestrator("walk", given)
    yield context.call_activity("tell", {**told, "what": "ended"})
    return {"walked": below}


@bp.orchestration_trigger(context_name="context")
def walk(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
    """Wait for what may never come, if asked to."""
    event = context.get_input()["waits_for"]
    if event is not None:
        yield context.wait_for_external_event(event)
    return "far"


@bp.activity_trigger(input_name="told")
def tell(told: dict[str, Any]) -> None:
    """An activity may run twice: its key is the same then."""
    request = Request(told["url"], json.dumps(told).encode())
    build_opener(ProxyHandler({})).open(request, timeout=10).close()  # a sink of the test
