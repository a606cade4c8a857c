"""The host's pages: what runs, for a person, and for nobody who comes by another name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from devhost.durable.management.tables import instance_list, instance_page
from devhost.durable.store.history import event_raised, now_us
from devhost.durable.store.records import InstanceRow, Status, Unit
from devhost.extensions.contract import Table
from devhost.testing import PROJECT_DIR, HostProcess, host_process
from tests.devhost.durable.durable_harness import RunningHost, load_app

APP = PROJECT_DIR / "tests" / "devhost" / "apps" / "durable_basic"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("pages")
    with host_process(APP, folder / "data") as running:
        yield running


def _get(host: HostProcess, path: str) -> httpx.Response:
    return httpx.get(f"{host.base_url}{path}", headers=host.admin_headers, trust_env=False)


def _run(host: HostProcess, orchestrator: str, instance_id: str, until: str, given: bytes = b"null") -> str:
    """Start an instance; its page, once it shows a text."""
    started = httpx.post(
        f"{host.base_url}/durabletask/orchestrators/{orchestrator}/{instance_id}", content=given, trust_env=False
    )
    assert started.status_code == 202, started.text
    return _until(host, instance_id, until)


def _until(host: HostProcess, instance_id: str, text: str) -> str:
    looks = 400
    while text not in (page := _get(host, f"/admin/pages/durableTask/{instance_id}").text):
        looks -= 1
        assert looks, page
    return page


def test_the_overview_lists_the_functions_under_a_policy_without_scripts(host: HostProcess) -> None:
    page = _get(host, "/admin/pages")
    assert page.status_code == 200
    assert "<td>hello_chain</td><td>orchestrationTrigger</td>" in page.text
    assert "Orchestration instances" in page.text
    assert "<script" not in page.text
    assert "style=" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_an_instance_is_shown_with_its_timeline_and_history(host: HostProcess) -> None:
    page = _run(host, "hello_chain", "a-b", ">Completed<")
    assert "<h1>Instance a-b</h1>" in page
    assert "ExecutionStarted" in page
    assert 'aria-label="Timeline of a-b: 2 activity calls; took ' in page
    assert page.count('<g class="activity"><title>') == 2
    assert '<a href="/admin/pages/durableTask/a-b">a-b</a>' in _get(host, "/admin/pages").text


def test_a_wait_runs_to_the_present_and_then_to_the_event_that_ended_it(host: HostProcess) -> None:
    page = _run(host, "approval", "waits", "due in ", b'"{\\"timeout\\": 3600}"')
    assert re.search(r'<g class="timer"><title>timer · open for [^<]+, due in (1 h|59 min)', page)
    assert "still open" in page
    raised = httpx.post(
        f"{host.base_url}/durabletask/instances/waits/raiseEvent/Approval", json='"yes"', trust_env=False
    )
    assert raised.status_code == 202, raised.text
    page = _until(host, "waits", ">Completed<")
    assert '<g class="event"><title>event Approval · arrived</title>' in page
    assert '<g class="timer"><title>timer · cancelled (due after 1 h)</title>' in page


def test_a_parent_and_its_child_lead_to_each_other(host: HostProcess) -> None:
    page = _run(host, "parent_of_a_wait", "elder", "waiting-kid")
    assert '<a href="/admin/pages/durableTask/waiting-kid">waiting-kid</a>' in page
    assert '<a href="/admin/pages/durableTask/elder">elder</a>' in _until(host, "waiting-kid", "Parent")


def test_half_a_character_pair_does_not_end_the_page(host: HostProcess) -> None:
    _run(host, "two_events", "odd", ">Running<")
    raised = httpx.post(
        f"{host.base_url}/durabletask/instances/odd/raiseEvent/One",
        content=rb'"\ud800"',
        headers={"content-type": "application/json"},
        trust_env=False,
    )
    assert raised.status_code == 202, raised.text
    assert "EventRaised" in _until(host, "odd", "event One")


def test_instances_are_listed_by_status(host: HostProcess) -> None:
    _run(host, "hello_chain", "ended", ">Completed<")
    _run(host, "two_events", "runs-on", ">Running<")
    running = _get(host, "/admin/pages/durableTask?status=Running").text
    assert ">runs-on</a>" in running
    assert ">ended</a>" not in running
    assert 'aria-current="page">Running (' in running
    assert ">ended</a>" in _get(host, "/admin/pages/durableTask?status=nonsense&before=x").text


@pytest.mark.parametrize(
    "path", ["/admin/pages/durableTask/a%2F%3Cb%3E", "/admin/pages/nothing/x", "/admin/pages/a/b/c"]
)
def test_there_is_no_other_page(host: HostProcess, path: str) -> None:
    assert _get(host, path).status_code == 404


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[RunningHost]:
    async with RunningHost(load_app("durable_basic"), tmp_path) as running:
        yield running


async def test_many_instances_are_listed_page_by_page(engine: RunningHost) -> None:
    now = now_us()
    rows = [
        InstanceRow(gen, f"i-{gen}", "e", "o", "", Status.COMPLETED, None, None, None, now, now + 5_000)
        for gen in range(1, 251)
    ]
    await engine.engine.store.commit(Unit(instances=rows))
    query: dict[str, str] = {"status": "completed"}
    seen = []
    while True:
        [table] = instance_list(engine.engine, query)
        assert isinstance(table, Table)
        seen.append([row[0][0] for row in table.rows])
        older = [link for link in table.links if link.text == "Older"]
        if not older:
            break
        query = dict(older[0].query)
    assert [len(page) for page in seen] == [100, 100, 50]
    assert [name for page in seen for name in page] == [f"i-{gen}" for gen in range(250, 0, -1)]
    assert table.rows[0][3] == ("5 ms", None)


async def test_a_long_history_is_told_in_parts(engine: RunningHost) -> None:
    now = now_us()
    row = InstanceRow(1, "long", "e", "o", "", Status.COMPLETED, None, None, None, now, now)
    raised = [event_raised(now, f"e{number}", "1") for number in range(1_100)]
    await engine.engine.store.commit(Unit(instances=[row], history=[(1, 0, ",".join(raised))]))
    titles, counts = [], []
    query: dict[str, str] = {}
    while True:
        table = instance_page(engine.engine, "long", query)[-1]
        assert isinstance(table, Table)
        titles.append(table.title)
        counts.append(len(table.rows))
        later = [link for link in table.links if link.text == "Later"]
        if not later:
            break
        query = dict(later[0].query)
    assert counts == [500, 500, 100]
    assert titles[1] == "History, events 501 to 1000 of 1100"
