"""Lists that are longer than a page of the API end where they end, not where the page does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, script
from tests.e2e.support.processes import AppHost
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_SESSIONS = """
    INSERT INTO sessions (id, owner_id, name, status, config, created_at, updated_at, event_seq_ceiling)
    SELECT 'listed-' || n, 'lena', 'Number ' || n, 'ACTIVE', '{}', %(now)s, %(now)s - n * interval '1 minute', 0
    FROM generate_series(1, 230) n
"""


def test_the_session_list_shows_more_to_its_end_and_keeps_its_length_when_it_is_read_again(
    parley: AppHost, visit: Visit
) -> None:
    with psycopg.connect(parley.environment["POSTGRES_URL"]) as database:
        database.execute(_SESSIONS, {"now": datetime.now(UTC)})
    page = visit(parley, user="lena;user").open()
    sessions = page.get_by_role("navigation", name="Sessions")
    rows, more = sessions.get_by_role("listitem"), sessions.get_by_role("button", name="Show more")
    expect(rows).to_have_count(100)
    more.click()
    expect(rows).to_have_count(200)
    more.click()
    expect(rows).to_have_count(230)
    expect(more).to_have_count(0)
    names = [name.split("\n")[0] for name in rows.all_inner_texts()]
    assert names == [f"Number {n}" for n in range(1, 231)]

    lena = Http(parley.base_url, "lena")
    lena.session("The newest")
    lena.close()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(rows.first).to_contain_text("The newest")
    expect(rows).to_have_count(231)
    sessions.get_by_label("Search sessions and messages").fill("Number 22")
    expect(rows).to_have_count(11)  # 22, and 220 to 229


def test_earlier_calls_of_a_tool_are_shown_page_by_page_whatever_else_was_asked_for(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    """More calls of another tool than a page holds come in between."""
    policy = {"required": True, "roles": [], "users": ["lena"]}
    agent_id = http.agent("web-long-lists", "Careful", policies={"calculate": policy, "current_time": policy})
    session_id = http.session("Asked often", agent_id=agent_id)
    sums = [call("calculate", expression=f"{n} + 1") for n in range(24)]
    for calls in (sums, [call("current_time")] * 24):
        turn = http.say(session_id, script(tool_calls=[calls]), wait=False)["turn"]
        while len(http.get(f"/sessions/{session_id}/approvals", turn_id=turn["id"], limit=200)["items"]) < len(calls):
            pass
        http.post(f"/sessions/{session_id}/turns/{turn['id']}/cancel")
        http.until_over(session_id)
    http.say(session_id, script(tool_calls=[[call("calculate", expression="2 * 3")]]))
    [approval] = http.get(f"/sessions/{session_id}/approvals", status="pending")["items"]

    page = visit(parley, user="lena").open("approvals", approval["id"])
    earlier = page.get_by_role("region", name="History of this tool")
    rows = earlier.get_by_role("listitem")
    expect(rows).to_have_count(19)  # a page, with the one that is looked at
    earlier.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(len(sums))
    expect(earlier.get_by_role("button", name="Show more")).to_have_count(0)
    asked = {found for text in rows.all_text_contents() for found in re.findall(r"\d+ \+ 1", text)}
    assert asked == {f"{n} + 1" for n in range(len(sums))}

    # Who may not decide has no inbox: theirs are the calls of the session.
    owner = visit(parley).open("approvals", approval["id"])
    expect(owner.get_by_role("heading", name="Earlier calls of this tool in this session")).to_be_visible()
    expect(owner.get_by_role("region", name="History of this tool").get_by_role("listitem")).to_have_count(19)
    http.post(f"/sessions/{session_id}/turns/{approval['turn_id']}/cancel")
