"""The chat room: where one begins, a message said anew, sessions that stay on top, what answers cost."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def _fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_first_words_make_one_session_however_often_enter_is_pressed(parley: AppHost, visit: Visit) -> None:
    user = "begins;approver,admin"
    http = Http(parley.base_url, user)
    http.agent("begin-brief", "Brief", description="Says little.", model="model-b")
    for size, scheme in ((None, "light"), ({"width": 360, "height": 740}, "dark")):
        page = visit(parley, user=user, size=size, scheme=scheme).open("sessions")
        expect(page.get_by_role("heading", name="What shall we work on?")).to_be_visible()
        brief = page.get_by_role("radio", name="Brief Says little. model-b")
        expect(brief).to_be_visible()
        assert barriers(page) == []
        assert _fits(page)
    page = visit(parley, user=user).open("sessions")
    box = page.get_by_label("First message")
    expect(box).to_be_focused()
    brief = page.get_by_role("radio", name="Brief Says little. model-b")
    brief.check()
    box.fill(script(content="Begun."))
    # Both before the first is answered.
    box.evaluate(
        """box => { for (const _ of [1, 2])
            box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true})) }"""
    )
    expect(page.get_by_role("log").get_by_text("Begun.", exact=True)).to_be_visible()
    [session] = http.get("/sessions")["items"]
    assert session["agent_id"] == "begin-brief"
    assert len(http.get(f"/sessions/{session['id']}/messages", role="user")["items"]) == 1
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.goto("/#/sessions")
    expect(page.get_by_label("First message")).to_have_value("")
    http.close()


def test_an_example_leads_to_an_approval(parley: AppHost, visit: Visit) -> None:
    page = visit(parley, user="tries;approver,admin").open("sessions")
    page.get_by_role("button", name=re.compile("Send a note")).press("Enter")
    port = int(parley.base_url.rsplit(":", 1)[1]) + 1
    asked = f'POST {{"text": "hello"}} to http://localhost:{port}/notes'
    expect(page.locator(".message.user").get_by_text(asked)).to_be_visible()
    call = page.get_by_role("log").get_by_role("region", name="Tool call http_request")
    expect(call).to_contain_text("Waits for")


def test_a_message_is_said_anew_where_it_stands_and_both_can_be_read(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Said anew")
    http.say(session_id, script(content="Before."))
    http.say(session_id, script(content="First answer."))
    visitor = visit(parley)
    page = visitor.open("sessions", session_id)
    log = page.get_by_role("log")
    asked = page.locator(".message.user").last
    asked.get_by_role("button", name="Edit").press("Enter")
    box = asked.get_by_label("Edited message")
    expect(box).to_be_focused()
    assert barriers(page) == []
    box.press("Escape")
    expect(asked.get_by_role("button", name="Edit")).to_be_focused()
    asked.get_by_role("button", name="Edit").press("Enter")
    box.fill(script(content="Second answer."))
    # It is refused once, and its words stay where they are.
    visitor.expected = re.compile("503")
    page.route(
        "**/edit", lambda route: route.fulfill(status=503, json={"code": "DATABASE_ERROR", "detail": "Away."}), times=1
    )
    box.press("Enter")
    expect(page.get_by_text("Away.")).to_be_visible()
    box.press("Enter")
    expect(log.get_by_text("Second answer.", exact=True)).to_be_visible()
    expect(log.get_by_text("First answer.", exact=True)).not_to_be_attached()
    expect(log.get_by_text("Before.", exact=True)).to_be_visible()
    fork = log.get_by_role("group", name="Question 2 of 2")
    http.until_over(session_id)
    expect(fork.get_by_role("button", name=re.compile("Previous"))).to_have_attribute("aria-disabled", "false")
    fork.get_by_role("button", name=re.compile("Previous")).press("ArrowLeft")
    expect(log.get_by_text("First answer.", exact=True)).to_be_visible()
    expect(log.get_by_role("group", name="Question 1 of 2")).to_be_visible()


def test_a_pinned_session_stays_on_top_by_the_palette_and_the_menu(parley: AppHost, visit: Visit) -> None:
    user = "pins;approver,admin"
    http = Http(parley.base_url, user)
    pinned = http.session("Kept")
    http.session("Newer")
    page = visit(parley, user=user).open("sessions", pinned)
    expect(page.get_by_role("button", name="Kept", exact=True)).to_be_visible()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("combobox", name="Session, room or action")
    palette.fill("Pin this")
    expect(page.get_by_role("option", name=re.compile("Pin this session"))).to_have_attribute("aria-selected", "true")
    palette.press("Enter")
    rows = page.get_by_role("navigation", name="Sessions")
    group = rows.get_by_role("region", name="Pinned")
    expect(group.get_by_role("link")).to_have_count(1)
    expect(group.get_by_role("link")).to_contain_text("Kept")
    expect(rows.get_by_role("link", name=re.compile("Kept"))).to_have_count(1)
    page.reload()
    expect(group.get_by_role("link")).to_contain_text("Kept")
    assert barriers(page) == []
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="Unpin").press("Enter")
    expect(group).not_to_be_attached()
    http.close()


def test_the_model_its_effort_and_a_limit_are_chosen_at_the_composer_and_an_answer_tells_its_cost(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Chosen")
    http.say(session_id, script(content="Paid."))
    page = visit(parley, size=PHONE, has_touch=True, is_mobile=True).open("sessions", session_id)
    cost = page.locator(".message.assistant .cost")
    expect(cost).to_be_visible()
    expect(cost).to_contain_text(re.compile(r"\d+ in.* · \d+ out"))
    page.get_by_label(re.compile("^Model, effort and cost: Default model")).press("Enter")
    form = page.get_by_role("form", name="Model, effort and cost")
    form.get_by_label("Model", exact=True).fill("model-b")
    form.get_by_text("From the next message on.").click()  # beside the fields: it stays open
    form.get_by_label("Effort").select_option("high")
    form.get_by_label(re.compile("Most that a turn may cost")).fill("0.5")
    assert barriers(page) == []
    assert _fits(page)
    form.get_by_role("button", name="Use these").press("Enter")
    chosen = page.get_by_label("Model, effort and cost: model-b · high · ≤ $0.5")
    expect(chosen).to_be_focused()
    config = http.get(f"/sessions/{session_id}")["config"]
    assert (config["model"], config["reasoning_effort"], config["max_turn_cost_usd"]) == ("model-b", "high", 0.5)
