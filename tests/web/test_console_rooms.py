"""The rooms in which things are made: schedules, triggers, MCP servers, policies, trials of agents; and who may not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_schedules_and_triggers_are_made_paused_and_fired(parley: AppHost, visit: Visit) -> None:
    visitor = visit(parley, user="sam;user")
    page = visitor.open("build")
    page.get_by_role("main").get_by_role("link", name="Schedules").click()
    expect(page.get_by_text("No schedules")).to_be_visible()
    page.get_by_role("button", name="New schedule").click()
    page.get_by_label("Id", exact=True).fill("web-news")
    page.get_by_label("Message").fill("What is new?")
    page.get_by_role("button", name="Make it").click()
    card = page.get_by_role("list", name="Schedules").get_by_role("listitem")
    expect(card).to_contain_text("0 0 9 * * MON-FRI")
    expect(card).to_contain_text("active")
    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    card.get_by_text("Last runs").click()
    expect(card).to_contain_text("Nothing was due yet.")
    assert barriers(page) == []
    http = Http(parley.base_url, "sam;user")
    # What the form did not ask for stayed as it was.
    stored = http.get("/schedules/web-news")
    assert (stored["content"], stored["cron"], stored["session_id"]) == ("What is new?", "0 0 9 * * MON-FRI", None)
    assert stored["config"] == {}, "the agent's defaults still hold"

    page.goto("/#/triggers")
    page.get_by_role("button", name="New trigger").click()
    page.get_by_label("Id", exact=True).fill("web-orders")
    page.get_by_label("Message").fill(script(content="Noted."))
    page.get_by_label("A queue").check()
    page.get_by_role("button", name="Make it").click()
    secret = page.get_by_role("dialog", name="Its secret, shown this once")
    expect(secret).to_contain_text("whsec_")
    secret.get_by_role("button", name="I have it").click()
    card = page.get_by_role("list", name="Triggers").get_by_role("listitem")
    expect(card).to_contain_text("Never fired")
    expect(card).to_contain_text("Messages of a queue: the app has none")
    assert "whsec_" not in page.content()
    assert barriers(page) == []
    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    assert http.get("/triggers/web-orders")["sources"] == ["webhook", "queue"], "as it was made"
    card.get_by_role("button", name="Go on").click()
    card.get_by_role("button", name="Fire").click()
    dialog = page.get_by_role("dialog", name="Fire web-orders")
    dialog.get_by_label("Payload as JSON").fill('{"order": 7')
    expect(dialog.get_by_role("button", name="Fire")).to_be_disabled()
    dialog.get_by_label("Payload as JSON").fill('{"order": 7}')
    dialog.get_by_role("button", name="Fire").click()
    expect(page.get_by_role("log").get_by_text("Noted.", exact=True)).to_be_visible()
    http.close()


def test_an_mcp_server_is_added_and_its_changed_tool_given_up(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    rooms = RoomsServer(sink)
    http.agent("web-porter", "Porter")
    page = visit(parley).open("mcp")
    page.get_by_role("button", name="Add a server").click()
    page.get_by_label("For the agent").select_option("web-porter")
    page.get_by_label("Name, which stands before").fill("rooms")
    page.get_by_label("Its MCP endpoint").fill(sink.url("/mcp"))
    page.get_by_label("Exact names of its tools").fill("book")
    page.get_by_role("button", name="Add it").click()
    servers = page.get_by_role("article", name="Servers of web-porter")
    expect(servers).to_contain_text("rooms__book")
    rooms.tool = {**rooms.tool, "description": "Book a room, and tell everybody"}
    servers.get_by_role("button", name="Compare with the servers").click()
    expect(servers).to_contain_text("changed")
    expect(servers.get_by_role("button", name="Accept this definition of rooms__book")).to_be_visible()
    assert barriers(page) == []
    servers.get_by_role("button", name="Stop using rooms__book").click()
    expect(servers).to_have_count(0)
    assert http.get("/agents/web-porter")["mcp_servers"] == []


def test_two_versions_answer_one_message_and_a_draft_is_tried_beside_its_form(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    http.agent("web-tried", "Tried", description="one")
    http.agent("web-tried", "Tried", description="two", policies={"calculate": {"required": True}})
    page = visit(parley).open("playground", "web-tried@1", "web-tried@2")
    expect(page.get_by_label("Version A")).to_have_value("1")
    expect(page.get_by_label("Version B")).to_have_value("2")
    page.get_by_label("Message to both").fill(script(content="Hello from a version."))
    page.get_by_role("button", name="Send to both").click()
    for side in ("A", "B"):
        answers = page.get_by_role("log", name=f"Answers of {side}")
        expect(answers.get_by_text("Hello from a version.", exact=True)).to_be_visible()
        took = answers.get_by_label("What it took")
        expect(took).to_contain_text("completed")
        expect(took).to_contain_text(re.compile(r"\d+ in, \d+ out"))
    assert barriers(page) == []
    session = page.get_by_role("region", name="Side A").get_by_role("link", name="Its session").get_attribute("href")
    assert http.get(f"/sessions/{(session or '').rpartition('/')[2]}")["agent_version"] == 1
    page.get_by_role("button", name="Throw both away").click()
    expect(page.get_by_text("Nothing was sent yet")).to_have_count(2)

    # The form's own text answers, and is not saved.
    page.goto("/#/agents/web-tried")
    page.get_by_label("Instructions").fill("Be very brief.")
    run = page.get_by_role("region", name="Test run")
    expect(run).to_contain_text("What the form holds answers")
    run.get_by_label("Test message", exact=True).fill(script(content="Hello from a draft."))
    run.get_by_role("button", name="Run").click()
    expect(run.get_by_text("Hello from a draft.", exact=True)).to_be_visible()
    expect(run.get_by_label("What it took")).to_contain_text("completed")
    # What approvers see is a choice of the form.
    row = page.get_by_role("listitem").filter(has=page.get_by_text("calculate", exact=True)).first
    row.get_by_label("What they see of the turn").select_option("question")
    expect(run).to_contain_text("The form has changed")
    assert barriers(page) == []
    assert http.get("/agents/web-tried")["version"] == 2
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("version 3")).to_be_visible()
    assert http.get("/agents/web-tried")["policies"]["calculate"]["context"] == "question"

    # An older version's policies are shown and tried as well.
    page.goto("/#/policies/web-tried/1")
    expect(page.get_by_role("region", name="All policies")).to_contain_text("always")
    page.get_by_label("Policy of the tool").select_option("calculate")
    page.get_by_label("Arguments as JSON").fill('{"expression": "1+1"}')
    page.get_by_role("form", name="Test of calculate").get_by_role("button", name="Test").click()
    expect(page.get_by_role("status", name="What would happen")).to_contain_text("runs")
    page.get_by_role("combobox", name="Version", exact=True).select_option("3")
    page.get_by_label("Policy of the tool").select_option("calculate")
    page.get_by_label("Arguments as JSON").fill('{"expression": "1+1"}')
    page.get_by_role("form", name="Test of calculate").get_by_role("button", name="Test").click()
    expect(page.get_by_role("status", name="What would happen")).to_contain_text("waits")
    assert barriers(page) == []


def test_who_has_not_the_role_is_told_why(parley: AppHost, visit: Visit) -> None:
    page = visit(parley, user="una;user").open("build")
    expect(page.get_by_role("link", name="Playground")).to_contain_text("changes take the role admin")
    for room in ("playground", "mcp", "agents", "policies"):
        page.goto(f"/#/{room}")
        expect(page.get_by_role("note")).to_contain_text("You are una, with user")
    expect(page.get_by_role("button", name="Add a server")).to_have_count(0)
