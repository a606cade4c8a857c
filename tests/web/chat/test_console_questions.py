"""What a tool call asks its user, in the console: a form for whom it asks, words for whoever else watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.client import call, script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name of the guest", "description": "As on the passport", "minLength": 2},
        "nights": {"type": "integer", "title": "Nights", "minimum": 1},
        "board": {"type": "string", "title": "Board", "oneOf": [{"const": "hb", "title": "Half board"}]},
        "extras": {"type": "array", "title": "Extras", "items": {"type": "string", "enum": ["cot", "late arrival"]}},
        "pets": {"type": "boolean", "title": "Pets", "default": False},
    },
    "required": ["name", "nights"],
}


@pytest.fixture
def rooms(http: Http, sink: Sink) -> tuple[RoomsServer, str]:
    """A server that asks, and a session whose agent books there."""
    server = RoomsServer(sink)
    server.asks = FORM
    server.release()
    http.agent("web-asks", "Asks", mcp_servers=[{**server.as_agents_name_it(), "rules": server.without_asking()}])
    return server, http.session("A room", agent_id="web-asks")


def _asked(http: Http, page: Page, session_id: str) -> Any:
    http.say(session_id, script(content="Booked.", tool_calls=[[call("rooms__book", room="7")]]))
    form = page.get_by_role("form", name="Questions of rooms__book")
    expect(form).to_contain_text("The MCP server rooms asks you")
    return form


def test_a_question_is_answered_in_a_form_and_the_turn_goes_on(
    parley: AppHost, http: Http, visit: Visit, rooms: tuple[RoomsServer, str]
) -> None:
    server, session_id = rooms
    page = visit(parley, size=PHONE).open("sessions", session_id)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    form = _asked(http, page, session_id)
    expect(page.get_by_role("status").filter(has_text="Waiting for an answer")).to_be_visible()
    page.reload()
    expect(form.get_by_role("group", name="For whom?")).to_be_visible()
    assert barriers(page) == []

    form.get_by_label("Name of the guest").fill("Ada")
    form.get_by_label("Nights").fill("2")
    form.get_by_label("Board").select_option("Half board")
    form.get_by_label("late arrival").check()
    form.get_by_role("button", name="Send").click()

    expect(form).to_have_count(0)
    http.until_over(session_id)
    content = {"name": "Ada", "nights": 2, "board": "hb", "extras": ["late arrival"], "pets": False}
    sent = server.calls()[-1].json()["params"]["inputResponses"]
    assert sent == {"guest": {"action": "accept", "content": content}}
    expect(page.get_by_role("region", name="Tool call rooms__book")).to_contain_text("completed")


def test_a_question_is_declined_while_somebody_else_watches(
    parley: AppHost, http: Http, visit: Visit, rooms: tuple[RoomsServer, str]
) -> None:
    server, session_id = rooms
    http.put(f"/sessions/{session_id}/participants/ben", {"access": "write"})
    page = visit(parley).open("sessions", session_id)
    watcher = visit(parley, user="ben").open("sessions", session_id)
    form = _asked(http, page, session_id)
    shown = watcher.get_by_role("region", name="Tool call rooms__book")
    expect(shown).to_contain_text("to answer “For whom?”")
    expect(watcher.get_by_role("form", name="Questions of rooms__book")).to_have_count(0)

    form.get_by_role("button", name="Decline").click()

    expect(form).to_have_count(0)
    http.until_over(session_id)
    assert server.calls()[-1].json()["params"]["inputResponses"] == {"guest": {"action": "decline"}}
