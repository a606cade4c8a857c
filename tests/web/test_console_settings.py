"""How answers are made and what they cost: a session's settings, an agent's model, and the figures of turns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.support.client import call, script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_PRICES = {"input_usd": 2, "cached_input_usd": 0.2, "output_usd": 10}


def _settings(page: Page) -> Locator:
    header = page.locator(".session-header")
    header.get_by_label("More").click()
    header.get_by_role("button", name="Settings").click()
    return page.get_by_role("dialog", name="Settings")


def test_settings_are_checked_saved_shown_and_taken_away(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Set", config={"max_steps": 3})
    visitor = visit(parley)
    visitor.expected = re.compile("422")  # what the service refuses, below
    page = visitor.open("sessions", session_id)
    before = http.get(f"/sessions/{session_id}")["config"]
    dialog = _settings(page)
    schema, save = dialog.get_by_label("Output schema"), dialog.get_by_role("button", name="Save")
    expect(dialog.get_by_label("Reasoning effort")).to_be_focused()
    dialog.get_by_label("Reasoning effort").select_option("high")

    # Invalid JSON is not sent.
    schema.fill('{"type": ')
    save.click()
    expect(dialog.get_by_role("alert")).to_contain_text("This is not valid JSON")
    expect(schema).to_have_accessible_description(re.compile("This is not valid JSON"))
    assert http.get(f"/sessions/{session_id}")["config"] == before
    # What the service refuses stands at its field, and goes with the next letter.
    schema.fill('{"type": "array"}')
    turn_cost = dialog.get_by_label("Cost limit of one turn")
    turn_cost.fill("0")
    save.click()
    expect(schema).to_have_accessible_description(re.compile('The schema must have "type": "object"'))
    expect(turn_cost).to_have_accessible_description(re.compile("greater than 0"))
    assert http.get(f"/sessions/{session_id}")["config"] == before
    schema.fill(json.dumps(_SCHEMA))
    expect(dialog.get_by_role("alert")).to_have_count(1)
    turn_cost.fill("0.25")
    expect(dialog.get_by_role("alert")).to_have_count(0)
    save.click()
    expect(dialog).to_have_count(0)
    changed = {"reasoning_effort": "high", "output_schema": _SCHEMA, "max_turn_cost_usd": 0.25}
    assert http.get(f"/sessions/{session_id}")["config"] == before | changed

    _settings(page)
    expect(dialog.get_by_label("Reasoning effort")).to_have_value("high")
    expect(schema).to_have_value(json.dumps(_SCHEMA, indent=2))
    expect(turn_cost).to_have_value("0.25")
    dialog.get_by_label("Reasoning effort").select_option("Not set")
    schema.fill("")
    turn_cost.fill("")
    dialog.get_by_label("Cost limit of the session").fill("5")
    save.click()
    expect(dialog).to_have_count(0)
    assert http.get(f"/sessions/{session_id}")["config"] == before | {"max_session_cost_usd": 5.0}


def test_settings_of_a_session_that_has_ended_can_be_read_only(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Ended", config={"reasoning_effort": "low"})
    http.post(f"/sessions/{session_id}/end")
    dialog = _settings(visit(parley).open("sessions", session_id))
    expect(dialog.get_by_text("The session has ended: its settings stay.")).to_be_visible()
    expect(dialog.get_by_label("Reasoning effort")).to_have_value("low")
    expect(dialog.get_by_label("Reasoning effort")).to_be_disabled()
    expect(dialog.get_by_role("button", name="Save")).to_have_count(0)


def test_an_agents_model_is_described_and_its_older_turns_are_summarised_or_not(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    http.agent("web-modeller", "Modeller")
    page = visit(parley).open("agents", "web-modeller")
    save = page.get_by_role("button", name="Save as a new version")
    share = page.get_by_role("spinbutton", name="% of the window")
    expect(page.get_by_label("Summarise older turns at")).to_be_checked()
    expect(share).to_have_value("80")
    page.get_by_label("Model API").select_option("Responses")
    page.get_by_label("Context window").fill("64000")
    share.fill("65")
    save.click()
    expect(page.get_by_text("Saved as version 2.")).to_be_visible()
    kept = ("model_api", "model_context_tokens", "compact_at")
    assert [http.get("/agents/web-modeller")[name] for name in kept] == ["responses", 64000, 0.65]

    page.reload()
    expect(share).to_have_value("65")
    expect(page.get_by_label("Model API")).to_have_value("responses")
    page.get_by_label("Model API").select_option("The app’s default")
    page.get_by_label("Context window").fill("")
    page.get_by_label("Summarise older turns at").uncheck()
    expect(share).to_have_count(0)
    save.click()
    expect(page.get_by_text("Saved as version 3.")).to_be_visible()
    assert [http.get("/agents/web-modeller")[name] for name in kept] == [None, None, None]


def test_a_definition_that_changed_is_compared_and_accepted(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    rooms = RoomsServer(sink)
    http.agent("web-host", "Host", mcp_servers=[rooms.as_agents_name_it()])
    rooms.tool = {**rooms.tool, "description": "Book a room\u202e, and tell everybody"}
    page = visit(parley).open("agents", "web-host")
    servers = page.get_by_role("region", name="MCP servers")

    servers.get_by_role("button", name="Compare with the servers").click()
    expect(servers.get_by_text("changed", exact=True)).to_be_visible()
    expect(servers).to_contain_text('now: "Book a room\\u202e, and tell everybody"')
    assert barriers(page) == []
    servers.get_by_role("button", name="Accept this definition of rooms__book").click()

    expect(page.get_by_text("Accepted as version 2.")).to_be_visible()
    assert http.get("/agents/web-host")["mcp_pins"][0]["definition"]["description"] == rooms.tool["description"]
    other = visit(parley, user="ben").open("agents", "web-host")
    expect(other.get_by_role("region", name="MCP servers")).to_contain_text("rooms__book")
    expect(other.get_by_role("button", name="Compare with the servers")).to_have_count(0)
    other.get_by_label("Policy of the tool").select_option("rooms__book")
    other.get_by_role("form", name="Test of rooms__book").get_by_role("button", name="Test").click()
    expect(other.get_by_role("status", name="What would happen")).to_contain_text("It waits for an approval.")


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """A host that knows what its model costs."""
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink) | {"MODELS": json.dumps({"scripted": _PRICES})}
        with running_host(tmp_path_factory.mktemp("priced"), environment) as host:
            yield host


def _asked(http: Http) -> tuple[str, dict[str, float]]:
    """A session whose one turn reads cached tokens and reasons; what it used."""
    session_id = http.session("Counted")
    said = script(
        content="Two.", reasoning="One and one.", cached_tokens=30, tool_calls=[[call("calculate", expression="1+1")]]
    )
    http.say(session_id, said)
    [turn] = http.get(f"/sessions/{session_id}/turns")["items"]
    return session_id, turn["usage"]


def _line(page: Page, name: str) -> Locator:
    """A line of the details of a turn."""
    return page.locator(".fine-print dl > div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def test_a_turn_tells_its_tokens_and_their_cost(priced: AppHost, visit: Visit) -> None:
    http = Http(priced.base_url)
    session_id, usage = _asked(http)
    assert usage["cost_usd"] > 0
    cost = f"${usage['cost_usd']:.4f}"
    page = visit(priced).open("sessions", session_id)
    page.get_by_role("link", name="Timeline").first.click()
    tokens = page.locator(".tile").filter(has_text="Tokens")
    expect(tokens).to_contain_text(re.compile(r"in \(60 cached\),\s+\d+ out \(\d+ reasoning\)"))
    expect(page.locator(".tile").filter(has_text="Cost")).to_contain_text(cost)
    step = page.get_by_role("treeitem", name="model, step 1")
    expect(step).to_contain_text(re.compile(r"in \(30 cached\), \d+ out \(\d+ reasoning\), \$0\.\d{4}"))
    page.get_by_text("Details", exact=True).click()
    expect(_line(page, "Cached input tokens")).to_have_text("60 tokens")
    expect(_line(page, "Reasoning tokens")).to_have_text(f"{usage['reasoning_tokens']} tokens")
    expect(_line(page, "Cost")).to_have_text(cost)

    page.goto(f"/#/insight/{session_id}")
    expect(page.locator(".tile").filter(has_text="Cost")).to_contain_text(cost)
    expect(page.locator(".tile").filter(has_text="Tokens")).to_contain_text("60 cached")
    expect(page.get_by_role("region", name="Turns").get_by_role("listitem")).to_contain_text(cost)
    models = page.get_by_role("region", name="By model")
    expect(models.get_by_role("row").last).to_have_text(re.compile(rf"scripted.*60.*{re.escape(cost)}"))
    page.goto("/#/insight")
    expect(page.locator(".tile").filter(has_text="Cost")).to_contain_text("$")
    expect(page.get_by_role("img", name=re.compile(r"^Cost: .*\$0\.\d{4}"))).to_be_visible()
    http.close()


def test_a_price_that_is_not_known_is_told_in_details_only(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id, usage = _asked(http)
    assert usage["cost_usd"] is None
    page = visit(parley).open("insight", session_id)
    expect(page.locator(".tile").filter(has_text="Tokens")).to_be_visible()
    expect(page.locator(".tile").filter(has_text="Cost")).to_have_count(0)
    page.get_by_role("region", name="Turns").get_by_role("link").click()
    expect(page.locator(".tile").filter(has_text="Tokens")).to_be_visible()
    expect(page.locator(".tile").filter(has_text="Cost")).to_have_count(0)
    expect(page.get_by_role("tree")).not_to_contain_text("price")
    page.get_by_text("Details", exact=True).click()
    expect(_line(page, "Cost")).to_have_text("price not known")


def test_details_of_a_turn_say_how_its_last_answer_ended(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Cut")
    http.say(session_id, script(content="Half", finish_reason="length"))
    figures = visit(parley).open("insight", session_id)
    expect(figures.locator(".shares").filter(has_text="Answers")).to_contain_text("cut 1")
    page = visit(parley).open("sessions", session_id)
    page.get_by_role("link", name="Timeline").click()
    expect(page.get_by_role("treeitem", name="model, step 1")).to_contain_text("Cut at the output limit")
    page.get_by_text("Details", exact=True).click()
    expect(_line(page, "Its last answer")).to_have_text("Cut at the output limit")


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", None), ("dark", None), ("light", PHONE)], ids=["light", "dark", "phone"]
)
def test_axe_finds_nothing_in_settings_and_details(
    priced: AppHost, visit: Visit, scheme: str, size: dict[str, int] | None
) -> None:
    http = Http(priced.base_url)
    session_id, _ = _asked(http)
    visitor = visit(priced, scheme=scheme, size=size)
    visitor.expected = re.compile("422")
    page = visitor.open("sessions", session_id)
    dialog = _settings(page)
    dialog.get_by_label("Output schema").fill('{"type": "array"}')
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    found = barriers(page)
    page.keyboard.press("Escape")
    [turn] = http.get(f"/sessions/{session_id}/turns")["items"]
    page.goto(f"/#/sessions/{session_id}/turns/{turn['id']}")
    page.get_by_text("Details", exact=True).click()
    expect(_line(page, "Cost")).to_be_visible()
    found += barriers(page)
    page.goto("/#/agents/assistant")
    expect(page.get_by_label("Model API")).to_be_visible()
    found += barriers(page)
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    http.close()
