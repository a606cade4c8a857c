"""What somebody writes is not lost, sent twice or sent by accident; and messages that an address names are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_a_draft_outlives_a_reload_and_another_session_and_goes_when_it_is_sent(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    first, second = http.session("Drafted"), http.session("Other")
    page = visit(parley).open("sessions", first)
    box = page.get_by_label("Message", exact=True)
    box.fill(script(content="Sent once."))
    page.reload()
    expect(box).to_have_value(re.compile("Sent once"))
    page.goto(f"/#/sessions/{second}")
    expect(page.get_by_role("button", name="Other", exact=True)).to_be_visible()
    expect(box).to_have_value("")
    page.goto(f"/#/sessions/{first}")
    expect(box).to_have_value(re.compile("Sent once"))
    # The Enter with which Safari ends the writing of a word in another script.
    box.evaluate("box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true}))")
    expect(page.locator(".message.user")).to_have_count(0)
    box.press("Enter")
    expect(page.get_by_role("log").get_by_text("Sent once.", exact=True)).to_be_visible()
    expect(box).to_have_value("")
    page.reload()
    expect(page.get_by_role("log").get_by_text("Sent once.", exact=True)).to_be_visible()
    expect(box).to_have_value("")
    assert len(http.get(f"/sessions/{first}/messages", role="user")["items"]) == 1


def test_a_double_click_makes_one(parley: AppHost, http: Http, visit: Visit) -> None:
    made: list[str] = []
    visitor = visit(parley)
    page = visitor.open("sessions")
    page.on("request", lambda request: made.append(request.url) if request.method == "POST" else None)
    page.get_by_role("button", name="New session").first.click()
    page.get_by_label("Name").fill("Only one")
    page.get_by_role("button", name="Create", exact=True).dblclick()
    expect(page.get_by_role("button", name="Only one", exact=True)).to_be_visible()
    page.get_by_label("Message", exact=True).fill(script(content="Fork me."))
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant").get_by_text("Fork me.", exact=True)).to_be_visible()
    page.locator(".message.assistant").hover()
    page.locator(".message.assistant").get_by_label("Fork from here").dblclick()
    expect(page.get_by_text("Forked into a session of its own.")).to_be_visible()
    assert [len([url for url in made if url.endswith(end)]) for end in ("/sessions", "/fork")] == [1, 1]


def test_a_file_that_could_not_be_sent_is_kept_and_sent_again(
    parley: AppHost, http: Http, visit: Visit, tmp_path: Path
) -> None:
    session_id = http.session("Files")
    visitor = visit(parley)
    page = visitor.open("sessions", session_id)
    fails = [True]

    def answer(route: Route) -> None:
        if fails:
            route.fulfill(status=503, json={"code": "DATABASE_ERROR", "detail": "Not now.", "status": 503})
        else:
            route.continue_()

    page.route("**/attachments", answer)
    note = tmp_path / "note.txt"
    note.write_text("Remember the milk.")
    page.locator("input[type=file]").set_input_files(note)
    expect(page.get_by_text("Not now.")).to_be_visible()
    page.get_by_label("Message", exact=True).fill(script(content="Read."))
    page.keyboard.press("Enter")
    expect(page.get_by_text("A file could not be sent.")).to_be_visible()
    assert http.get(f"/sessions/{session_id}/messages")["items"] == []
    fails.clear()
    page.get_by_label("Send note.txt again").click()
    expect(page.locator(".composer .attachments .ready")).to_contain_text("note.txt")
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator(".message.user")).to_contain_text("note.txt")
    visitor.logged = [line for line in visitor.logged if "503" not in line]


def test_ending_asks_first_and_a_suspended_session_is_resumed_where_one_writes(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("To end")
    http.say(session_id, script(content="Begun."))
    page = visit(parley).open("sessions", session_id)
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="Suspend").click()
    page.get_by_role("button", name="Resume it").click()
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="End for good…").click()
    page.get_by_role("button", name="Keep it open").click()
    assert http.get(f"/sessions/{session_id}")["status"] == "ACTIVE"
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="End for good…").click()
    page.get_by_role("button", name="End it").click()
    expect(page.get_by_text("This session has ended.")).to_be_visible()


def test_a_fork_that_ends_with_a_question_can_be_answered(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Asked")
    http.say(session_id, script(content="Answered."))
    page = visit(parley).open("sessions", session_id)
    page.locator(".message.user").hover()
    page.locator(".message.user").get_by_label("Fork from here").click()
    expect(page.get_by_text("This message has no answer.")).to_be_visible()
    page.get_by_role("button", name="Answer it").click()
    expect(page.locator(".message.assistant")).to_contain_text("Answered.")
    expect(page.get_by_text("This message has no answer.")).to_have_count(0)


def test_a_message_far_up_is_reached_marked_and_not_jumped_to_again(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Long")
    wanted = http.say(session_id, script(content="The first answer."))["message"]["id"]
    for number in range(45):
        http.say(session_id, script(content=f"Answer {number}."))
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_role("log").get_by_text("Answer 44.", exact=True)).to_be_visible()
    page.goto(f"/#/sessions/{session_id}/at/{wanted}")
    reached = page.locator(f"#m-{wanted}")
    expect(reached).to_be_in_viewport()
    expect(reached).to_have_attribute("aria-current", "location")
    http.say(session_id, script(content="One more."))
    expect(page.get_by_role("log").get_by_text("One more.", exact=True)).to_be_attached()
    expect(reached).to_be_in_viewport()
    page.goto(f"/#/sessions/{session_id}/at/0190a000-0000-7000-8000-000000000000")
    expect(page.get_by_text("That message is not on the branch that is shown.")).to_be_visible()


def test_an_address_that_is_no_address_says_so(parley: AppHost, visit: Visit) -> None:
    visitor = visit(parley)
    visitor.expected = re.compile("404")
    page = visitor.open("sessions", "%E0%A4%A")
    expect(page.get_by_role("alert")).to_be_visible()
