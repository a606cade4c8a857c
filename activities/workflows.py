"""begin_workflow, tell_progress, end_workflow: what a workflow and the call that waits for it tell each other."""

from __future__ import annotations

import logging

import azure.durable_functions as df
import azure.functions as func

from activities.binding import deliver, sends_events
from activities.durable_client import raise_answer
from shared import tracing
from shared.composition.services import services
from shared.durable.messages import BeginWorkflowInput, BeginWorkflowResult, EndWorkflowInput, TellProgressInput
from shared.durable.names import BEGIN_WORKFLOW, END_WORKFLOW, TELL_PROGRESS
from shared.errors import Transient
from shared.sessions.live.realtime import DeliveryFailed

log = logging.getLogger(__name__)

bp = df.Blueprint()


@bp.activity_trigger(input_name="payload", activity=BEGIN_WORKFLOW)
@tracing.activity(BEGIN_WORKFLOW)
async def begin_workflow(payload: object) -> object:
    """Say whether this start runs: one of all that were made, while its call waits."""
    request = BeginWorkflowInput.load(payload)
    return BeginWorkflowResult(begun=await services().workflows.begin(request.tool_call_id, request.start)).dump()


@bp.activity_trigger(input_name="payload", activity=TELL_PROGRESS)
@tracing.activity(TELL_PROGRESS)
async def tell_progress(payload: object) -> None:
    """Tell the people of the session how far a workflow is. Whatever is away, this fails nothing of a workflow."""
    request = TellProgressInput.load(payload)
    try:
        messages = await services().workflows.progress(request.tool_call_id, request.text, request.fraction)
        await services().sender.send(messages)
    except (Transient, DeliveryFailed) as exc:
        log.warning("progress of call %s was not told: %s", request.tool_call_id, exc)


@bp.activity_trigger(input_name="payload", activity=END_WORKFLOW)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(END_WORKFLOW)
async def end_workflow(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> None:
    """Store what the workflow has made of its call, and wake the call."""
    request = EndWorkflowInput.load(payload)
    answered = await services().workflows.end(request.tool_call_id, request.outcome)
    if answered is None:
        return
    await deliver(events, answered.messages, is_repeat=request.again > 0)
    await raise_answer(client, answered.instance_id, answered.wait.id)
