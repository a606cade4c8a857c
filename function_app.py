"""The function app: registers every blueprint. No logic here."""

import azure.durable_functions as df
import azure.functions as func

from activities import approvals as approval_activities
from activities import model, tools, turns
from activities import workflows as workflow_activities
from orchestrators import approval, keeper, notification, turn, waiting, workflows
from shared.composition.services import services
from shared.sessions.tools import registry
from triggers.approvals import approvals, policies
from triggers.approvals import links as approve_links
from triggers.catalog import agents, trials
from triggers.catalog import mcp as mcp_servers
from triggers.catalog import tools as tool_list
from triggers.channels import webhooks
from triggers.doors import ag_ui, ai_sdk, mcp_server, responses
from triggers.http.endpoints import route_other_methods
from triggers.live import realtime, relay, replay
from triggers.operations import (
    health,
    metrics,
    retention,
    sweep,
    watch,
)
from triggers.sessions import (
    attachments,
    audit,
    branches,
    export,
    features,
    history,
    messages,
    participants,
    recovery,
    sessions,
    waits,
)
from triggers.sessions import turns as turn_routes
from triggers.site import console, documents, me
from triggers.unattended import hooks, queue, schedules
from triggers.unattended import triggers as trigger_routes

# Settings are checked here so that a wrong setting fails the start with one line, not the first request.
services()

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

for blueprint in (
    # Routes.
    sessions.bp,
    participants.bp,
    messages.bp,
    branches.bp,
    recovery.bp,
    turn_routes.bp,
    waits.bp,
    replay.bp,
    history.bp,
    me.bp,
    agents.bp,
    mcp_servers.bp,
    tool_list.bp,
    trials.bp,
    attachments.bp,
    export.bp,
    features.bp,
    approvals.bp,
    policies.bp,
    approve_links.bp,
    ag_ui.bp,
    mcp_server.bp,
    ai_sdk.bp,
    responses.bp,
    audit.bp,
    webhooks.bp,
    schedules.bp,
    trigger_routes.bp,
    hooks.bp,
    realtime.bp,
    health.bp,
    metrics.bp,
    documents.bp,
    console.bp,
    # The internal relay, and timers.
    relay.bp,
    sweep.bp,
    retention.bp,
    watch.bp,
    # Orchestrators and activities.
    turn.bp,
    approval.bp,
    waiting.bp,
    notification.bp,
    keeper.bp,
    model.bp,
    approval_activities.bp,
    tools.bp,
    turns.bp,
    workflow_activities.bp,
):
    app.register_functions(blueprint)

# Where there is no queue, nothing asks for its messages.
if services().settings.trigger_queue:
    app.register_functions(queue.bp)

# What the folder agents/ adds, without the names that are taken.
names = [builder._function.get_function_name() for builder in app._function_builders]
app.register_functions(workflows.contain(registry.workflows(names).builders))

route_other_methods()
