"""Two processes of the app over one database and one Redis: either tells the metrics of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.support.client import Api, call, eventually, open_api, post_call, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

type Values = dict[str, float]


@dataclass(frozen=True)
class Instances:
    first: AppHost
    second: AppHost


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[Instances]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink)
        with (
            running_host(tmp_path_factory.mktemp("first"), environment) as first,
            running_host(tmp_path_factory.mktemp("second"), environment) as second,
        ):
            yield Instances(first, second)


@pytest.fixture
async def both(instances: Instances) -> AsyncIterator[tuple[Api, Api]]:
    if not instances.second.is_running():
        instances.second.start()
    one = await open_api(instances.first, "olga;approver,admin")
    two = await open_api(instances.second, "olga;approver,admin")
    yield one, two
    await one.aclose()
    await two.aclose()


async def read(api: Api) -> Values:
    """`name,label=value` to value; of histograms, how many were observed and what they add up to."""
    response = await api.get("/api/v1/metrics")
    assert response.status_code == 200, response.text
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def talk(api: Api) -> str:
    """A session with one turn of two model calls and one tool call; the session."""
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[call("calculate", expression="2 + 2")]], content="four"))
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    return session_id


async def test_either_instance_tells_what_both_did(both: tuple[Api, Api]) -> None:
    one, two = both
    assert (await read(one))["session_created_total"] == 0
    sessions = [await talk(one), await talk(two), await talk(two)]

    async def all_there() -> Values | None:
        # The other instance's last counts are on their way for a second.
        values = await read(one)
        return values if values["llm_response_time_seconds_count,model=scripted,outcome=completed"] == 6 else None

    values = await eventually(all_there, "the counts of the second instance")
    expected = {
        "session_created_total": 3,
        "message_count_total,role=user": 3,
        "message_count_total,role=assistant": 6,
        "message_count_total,role=tool": 3,
        "tool_call_count_total,outcome=completed,tool=calculate": 3,
        "llm_response_time_seconds_count,model=scripted,outcome=completed": 6,
        "tool_execution_time_seconds_count,tool=calculate": 3,
        "active_sessions_count": 3,
        "pending_approvals_count": 0,
        "metrics_source_up,source=redis": 1,
        "metrics_source_up,source=postgres": 1,
    }
    assert {name: values[name] for name in expected} == expected
    assert values["llm_response_time_seconds_sum,model=scripted,outcome=completed"] > 0
    assert {name: value for name, value in (await read(two)).items() if name in expected} == expected
    await two.post(f"/api/v1/sessions/{sessions[0]}/end")
    assert (await read(one))["active_sessions_count"] == 2


async def test_a_waiting_approval_shows_on_either_instance(both: tuple[Api, Api], sink: Sink) -> None:
    one, two = both
    session_id = await one.session()
    turn_id = await one.say(session_id, script(tool_calls=[[post_call(sink.url("/gauge"))]]))
    approval = await one.approval(session_id)
    assert (await read(two))["pending_approvals_count"] == 1
    await one.decide(approval["id"], "reject")
    await one.until(session_id, turn_id)
    assert (await read(two))["pending_approvals_count"] == 0
    assert (await read(one))["tool_call_count_total,outcome=rejected,tool=http_request"] == 1


@pytest.mark.parametrize("user", ["mallory", "mallory;approver"])
async def test_metrics_are_for_admins(both: tuple[Api, Api], user: str) -> None:
    one, _ = both
    refused = await one.as_user(user).get("/api/v1/metrics")
    assert (refused.status_code, refused.json()["code"]) == (404, "SESSION_NOT_FOUND")


async def test_counts_of_the_last_second_survive_a_stop(both: tuple[Api, Api], instances: Instances) -> None:
    one, two = both
    before = await read(one)
    for _ in range(5):
        await two.session()
    instances.second.stop()
    assert (await read(one))["session_created_total"] == before["session_created_total"] + 5
