"""Where this engine differs from Azure's on purpose: one table.

Everything else equals what the extension was recorded to do (`tests/devhost/real`), times and ids aside. The tests read
this table: a case that a row names must differ, and no other may. An app must not lean on a row that is kinder than
Azure; `tests/orchestration/test_fits_azure.py` checks this for the app in this repository.
"""

from __future__ import annotations

from devhost.extensions.contract import Difference

DIFFERENCES = (
    Difference(
        what="a call of an activity that the app does not have",
        azure="the instance stays Running for ever, since errors in scheduling are swallowed",
        ours="it fails and names the activities there are",
        why="a slip in a name is found at once",
        cases=("observed/unknown_activity",),
    ),
    Difference(
        what="a sub-orchestration under the id of its parent",
        azure="the parent stays Running for ever",
        ours="the parent fails and says so",
        why="as for unknown activities",
    ),
    Difference(
        what="more actions than maxOrchestrationActions",
        azure="the actions up to the limit are run, and the instance stays Running for ever",
        ours="it fails before any of them and names the setting",
        why="as for unknown activities",
        cases=("episodes/too_many_actions_fail_the_orchestration",),
    ),
    Difference(
        what="a start with a name or an id that cannot work",
        azure="202 for any name and id; the instance fails later, or no URL reaches it (/, \\, #, ?, control "
        "characters)",
        ours="400 with the sentence of that failure, or with the rule of ids",
        why="the caller learns of it, and no instance exists that no request can name",
        cases=(
            "observed/unknown_orchestrator",
            "answers/start_at",
            "answers/start_long",
            "answers/start_backslash",
        ),
    ),
    Difference(
        what="simultaneous starts of one id",
        azure="all are accepted until the first has begun, and the instance runs once",
        ours="the first is accepted, the others are 409 (the harsh engine accepts them)",
        why="a start that was accepted but has no effect hides a race",
        cases=("observed/many_starts", "observed/many_starts_waiting"),
    ),
    Difference(
        what="purge by a filter that matches live instances",
        azure="runtimeStatus=Running, alone or beside others, deletes whatever was created in the range",
        ours="only instances that have ended and have one of the statuses",
        why="a development host must not lose what still runs",
        cases=("observed/purge", "observed/purge_filters"),
    ),
    Difference(
        what="messages for a suspended instance",
        azure="its code runs on the suspension and on each message; what it schedules waits, its custom status may "
        "change",
        ours="nothing runs until it is resumed (the harsh engine runs the code)",
        why="one episode less that has no lasting effect; a retry draws its ids in the order of messages",
        cases=(
            "episodes/output_of_suspended",
            "episodes/purge",
            "episodes/purge_filters",
            "episodes/suspended_activity_result",
            "episodes/suspended_event_runs_the_activity",
            "episodes/suspended_instance_schedules_nothing_until_resumed",
            "episodes/terminate_ends_a_suspended_instance_at_once",
            "observed/suspended_activity",
            "observed/suspended_event",
        ),
    ),
    Difference(
        what="the code of an instance that is terminated",
        azure="it runs once more with the ExecutionTerminated event, and its answer is thrown away",
        ours="it does not run",
        why="nothing of that run remains",
        cases=(
            "episodes/raise_event_tells_gone_from_unknown_from_malformed",
            "episodes/start_on_a_running_id_is_refused_and_on_a_finished_one_replaces_it",
            "episodes/terminate_parent",
            "episodes/terminated_instance_ignores_the_activity_that_still_runs",
        ),
    ),
    Difference(
        what="a 202 with a Location as the answer to call_http",
        azure="the location is polled, but the SDK 1.7 has taken the 202 as the answer (azure-functions-durable-python "
        "380, open); the poll's timer then has the id of its next call, which ends with it",
        ours="the 202 is the answer, and nothing is polled",
        why="SDK 1.7 completes on the first answer and counts other task ids, so a poll breaks what comes after it",
    ),
    Difference(
        what="a payload over the Durable Task Scheduler's 1 MiB, when host.json names it (azureManaged)",
        azure="refused by the service, whose code is closed; what becomes of the instance is nowhere written down",
        ours="a start, an event or a signal is 500; a call, an orchestration or an entity operation fails and says so",
        why="the app learns of it; it must not lean on how",
    ),
    Difference(
        what="top below 1",
        azure="handed on to the storage",
        ours="400",
        why="the caller learns of it",
    ),
    Difference(
        what="call_http with a token source",
        azure="the request carries a token of the managed identity",
        ours="it fails and says so",
        why="there is no managed identity on a laptop",
    ),
    Difference(
        what="Event Grid notifications of the life cycle",
        azure="sent when host.json names a topic",
        ours="such a setting is refused at start",
        why="there is no Event Grid on a laptop",
    ),
)


def differing_cases() -> frozenset[str]:
    """Every recording that a row names."""
    return frozenset(case for row in DIFFERENCES for case in row.cases)
