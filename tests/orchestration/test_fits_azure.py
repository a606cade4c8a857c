"""Every durable name, id and limit that the app uses is one that Azure takes.

Azure does not say when one is wrong: an instance that calls an unknown activity, or asks for too much, stays Running.
Our engine refuses earlier (`devhost/durable/fidelity.py`), so no other test would notice.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from devhost.app.describe import FUNCTION_NAME
from devhost.durable.replay.episode import bad_instance_id
from devhost.durable.settings import read_settings
from orchestrators import approval as approval_orchestrator
from orchestrators import waiting as waiting_orchestrator
from shared.adapters.models.calls import MAX_TOOL_CALLS
from shared.durable import names
from shared.ids import new_id
from shared.sessions.approvals.notices import MAX_REMINDERS
from shared.sessions.models import SessionConfig
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.turns.patience import MAX_MODEL_TRIES
from shared.sessions.turns.queueing import LONGEST_WAIT_S
from shared.sessions.turns.retry import (
    MAX_ACTIVITY_TRIES,
    MAX_NOTIFY_TRIES,
    MAX_OUTAGE_TRIES,
    queue_delay_s,
)
from shared.sessions.waits.opening import MAX_ROUNDS
from tests.support.least_settings import LEAST_SETTINGS

ROOT = Path(__file__).resolve().parents[2]
LONGEST_ID = 100
"""Characters of an instance id. Source: Microsoft Learn, "Orchestrations", rules about instance ids. (The extension
takes 256.)"""
MARGIN = 4
"""How far below a limit the app stays."""

_INDEXED = """
import json
import function_app
found = []
for function in function_app.app.get_functions():
    trigger = function.get_trigger().get_dict_repr()
    found.append([function.get_function_name(), trigger["type"], trigger])
print(json.dumps(found, default=str))
"""
_WRAPPERS = {  # function -> index of the argument that is the name, kind of what it names
    "call_activity": (1, "activityTrigger"),
    "parallel_activity": (1, "activityTrigger"),
    "sub_orchestration": (1, "orchestrationTrigger"),
    "start_new": (0, "orchestrationTrigger"),
}
_SDK = {"call_activity", "call_activity_with_retry", "call_sub_orchestrator", "call_sub_orchestrator_with_retry"}
_SDK_WRAPPERS = {ROOT / "orchestrators" / name for name in ("durable.py", "workflow_context.py")}


@cache
def functions() -> list[tuple[str, str, dict[str, object]]]:
    """Name, trigger type and trigger of each function of the app."""
    done = subprocess.run(
        [sys.executable, "-c", _INDEXED],
        cwd=ROOT,
        env={**os.environ, **LEAST_SETTINGS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(name, kind, trigger) for name, kind, trigger in json.loads(done.stdout.splitlines()[-1])]


def durable_names(kind: str) -> set[str]:
    key = {"activityTrigger": "activity", "orchestrationTrigger": "orchestration"}[kind]
    return {str(trigger.get(key) or name) for name, type_, trigger in functions() if type_ == kind}


def called() -> list[tuple[str, str, str]]:
    """Where, what kind, which name: every call of an activity or orchestration in the app."""
    found: list[tuple[str, str, str]] = []
    for path in [*(ROOT / "orchestrators").glob("*.py"), *(ROOT / "activities").glob("*.py")]:
        if path in _SDK_WRAPPERS:
            continue  # It passes on what it is given.
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            is_method = isinstance(node.func, ast.Attribute)
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert not (is_method and name in _SDK), f"{path.name}:{node.lineno} does not go through durable.py"
            if name in _WRAPPERS:
                index, kind = _WRAPPERS[name]
                found.append((f"{path.name}:{node.lineno}", kind, constant(node.args[index])))
    return found


def constant(node: ast.expr) -> str:
    """The value of a literal or of a constant of `shared/durable/names.py`; other names cannot be checked."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.Name), ast.unparse(node)
    return str(getattr(names, node.id, f"parameter {node.id}"))


def test_every_name_that_is_called_is_a_function_of_the_app() -> None:
    found = [one for one in called() if not one[2].startswith("parameter ")]
    assert len(found) >= 8
    assert [one for one in found if one[2] not in durable_names(one[1])] == []


def test_every_durable_name_is_a_function_of_the_app_and_is_used() -> None:
    """Also the names that reach a call as a parameter."""
    functions_of_names = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and not name.endswith(("_EVENT", "_INSTANCE"))
    }
    assert functions_of_names == durable_names("activityTrigger") | durable_names("orchestrationTrigger")


def test_azure_takes_the_names_of_all_functions() -> None:
    assert [name for name, _, _ in functions() if not FUNCTION_NAME.fullmatch(name)] == []
    lowered = [name.casefold() for name, _, _ in functions()]
    assert len(lowered) == len(set(lowered))


AN_ID = "01a22439-fef4-7770-aa6c-7d3e678f3969"
NUMBERS = (0, 1, MAX_REMINDERS)


@pytest.mark.parametrize(
    "instance_id",
    [
        AN_ID,  # a turn
        names.KEEPER_INSTANCE,
        names.call_instance(AN_ID, AN_ID),
        *(names.notification_instance(AN_ID, kind, number) for kind in NoticeKind for number in NUMBERS),
    ],
)
def test_azure_takes_the_ids_of_instances(instance_id: str) -> None:
    assert len(new_id()) == len(AN_ID)
    assert bad_instance_id(instance_id) is None
    assert len(instance_id) <= LONGEST_ID


@pytest.mark.parametrize("event", [names.CANCEL_EVENT, names.approval_event(AN_ID), names.answer_event(AN_ID)])
def test_events_have_names_that_fit_into_a_path(event: str) -> None:
    assert bad_instance_id(event) is None


def test_no_orchestration_comes_near_the_limit_of_actions() -> None:
    """A retried call and everything in it count as one action; a timer is one more. The database is away for
    hours once; what waits for it, or for its suspended session, asks once a minute."""
    limit = read_settings(json.loads((ROOT / "host.json").read_text()), {}).max_actions
    most_steps = max(meta.le for meta in SessionConfig.model_fields["max_steps"].metadata if hasattr(meta, "le"))
    call = 2 * MAX_ACTIVITY_TRIES
    step = MAX_MODEL_TRIES * (call + 1) + MAX_TOOL_CALLS
    outage = 2 * MAX_OUTAGE_TRIES
    turn = most_steps * step + call + outage + 2 * _most_looks()
    wait = 1 + 30 // 5  # a wait of up to 30 days, in timers of five
    looks = approval_orchestrator._MAX_LOOKS + 1
    approval = call + outage + (MAX_REMINDERS + 1) * (1 + wait) + looks * (call + wait)
    answers = MAX_ROUNDS * (waiting_orchestrator._MAX_LOOKS + 1) * (call + wait)
    assert max(turn, approval + answers, 2 * MAX_NOTIFY_TRIES) * MARGIN < limit


def _most_looks() -> int:
    """Of a step that waits for a place until it is given up, as the first of those that wait."""
    looks, seconds = 0, 0.0
    while seconds < LONGEST_WAIT_S:
        looks += 1
        seconds += queue_delay_s(looks, 0)
    return looks


def test_a_step_that_waits_for_a_place_looks_a_bounded_number_of_times() -> None:
    assert _most_looks() == 254


def test_no_orchestrator_sets_a_custom_status() -> None:
    """One of more than 16 KB would fail its instance. Who needs one bounds it, and the bound is tested here."""
    texts = [path.read_text() for path in (ROOT / "orchestrators").glob("*.py")]
    assert not any("set_custom_status" in text for text in texts)
