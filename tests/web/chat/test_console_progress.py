"""What a running call says of itself, where people look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_TOOL = '''
"""Counts until a file is there."""

import time
from pathlib import Path

from parley.tools import ToolContext, tool


@tool(idempotent=True)
def counts(path: str, call: ToolContext) -> str:
    """Count to four."""
    call.progress("3 of 4 <b>counted</b>", fraction=0.75)
    while not (Path(path).exists() or call.cancelled):
        time.sleep(0.05)
    return "four"
'''


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """With a tool of its own."""
    folder = tmp_path_factory.mktemp("progress")
    tools = folder / "agents" / "tools"
    tools.mkdir(parents=True)
    (tools / "counts.py").write_text(_TOOL)
    with (
        own_stores() as stores,
        running_host(folder, own_environment(stores, model_url, sink), AGENTS_FOLDER=str(folder / "agents")) as running,
    ):
        yield running


def test_progress_is_shown_while_a_call_runs_also_after_a_reload_and_then_no_more(
    host: AppHost, visit: Visit, tmp_path: Path
) -> None:
    http = Http(host.base_url)
    session_id = http.session("Counts")
    until = tmp_path / "enough"
    content = script(tool_calls=[[call("counts", path=str(until))]], content="Counted.")
    http.post(f"/sessions/{session_id}/messages", {"content": content, "approval_mode": "auto"})
    page = visit(host).open("sessions", session_id)
    bar = page.get_by_role("progressbar", name="Progress of counts")
    for _ in range(2):
        expect(bar).to_have_attribute("value", "0.75")
        expect(page.get_by_text("3 of 4 <b>counted</b>", exact=True)).to_be_visible()
        page.reload()
    expect(bar).to_be_visible()
    until.touch()
    expect(page.get_by_role("log").get_by_text("Counted.", exact=True)).to_be_visible()
    expect(bar).to_have_count(0)
