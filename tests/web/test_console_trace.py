"""A turn as a tree: its steps, calls, waits and the agents that it asked; by keyboard, and by the address of a row."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_a_turn_is_a_tree_to_walk_by_keyboard_and_each_row_has_an_address(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    http.agent("trace-helper", "Helper")
    http.agent("trace-boss", "Boss", agents=["trace-helper"])
    session_id = http.session("Traced", agent_id="trace-boss")
    task = script(content="Sent.", tool_calls=[[post_call(sink.url("/traced"))]])
    asked = script(content="All done.", reasoning="Ask first.", tool_calls=[[call("ask_trace_helper", input=task)]])
    posted = http.say(session_id, asked, wait=False)
    page = visit(parley).open("sessions", session_id, "turns", posted["turn"]["id"])
    tree = page.get_by_role("tree", name="Timeline")
    # It runs: the page follows until the helper waits for a person.
    waits = tree.get_by_role("treeitem", name="waited for a person pending")
    expect(waits).to_be_visible()
    expect(waits).to_have_attribute("aria-level", "7")
    waits.click()
    details = page.get_by_role("region", name="Details of waited for a person")
    details.get_by_role("link", name="The approval").click()
    page.get_by_role("button", name="Approve", exact=True).click()
    http.until_over(session_id)
    page.go_back()
    expect(tree.get_by_role("treeitem", name="waited for a person approved")).to_be_visible()
    expect(page.get_by_role("heading", name="One turn completed")).to_be_visible()
    # Which agent answered, in which version, with which model: of the turn, of those below it, of each step.
    top = tree.get_by_role("treeitem", name="Turn")
    expect(top).to_contain_text("trace-boss, version 1, ")
    top.click()
    whole = page.get_by_role("region", name="Details of Turn")
    expect(whole).to_contain_text("trace-boss, version 1")
    model = http.get(f"/sessions/{session_id}/turns/{posted['turn']['id']}")["model"]
    expect(whole.get_by_text(model, exact=True)).to_be_visible()
    tree.get_by_role("treeitem", name="model, step 1").nth(1).click()
    helped = page.get_by_role("region", name="Details of model, step 1")
    expect(helped).to_contain_text("trace-helper, version 1")
    expect(helped.get_by_text(model, exact=True)).to_be_visible()

    # Into the first step, to its call, fold, unfold, and to the agent below.
    waits = tree.get_by_role("treeitem", name="waited for a person")
    waits.focus()
    page.keyboard.press("Home")
    expect(tree.get_by_role("treeitem", name="Turn")).to_be_focused()
    step = tree.get_by_role("treeitem", name="model, step 1").first
    step.click()
    expect(page.get_by_role("region", name="Details of model, step 1")).to_contain_text("Ask first.")
    page.keyboard.press("ArrowLeft")
    expect(waits).to_have_count(0)
    expect(step).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    for name in ("ask_trace_helper", "trace-helper"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("region", name=f"Details of {name}")).to_be_visible()
    tree.get_by_role("treeitem", name="model, step 1").nth(1).click()
    page.keyboard.press("ArrowRight")
    shown = page.get_by_role("region", name="Details of http_request")
    expect(shown).to_contain_text(sink.url("/traced"))
    assert barriers(page) == []
    page.keyboard.press("Home")
    history = page.get_by_role("region", name="Details of Turn").get_by_role("link", name="Its durable history")
    assert history.get_attribute("href") == f"/admin/pages/durableTask/{posted['turn']['id']}"

    # Somebody who is sent the address of a row sees that row, on a phone, too.
    tree.get_by_role("treeitem", name="http_request").click()
    address = page.url
    other = visit(parley, size=PHONE).page
    other.goto(address)
    expect(other.get_by_role("treeitem", name="http_request")).to_have_attribute("aria-selected", "true")
    expect(other.get_by_role("region", name="Details of http_request")).to_contain_text(re.compile("Result"))
    assert other.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
