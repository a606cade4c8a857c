"""The README's tour by clicking, from the first message to a host that is killed while a turn waits for a person.

The host is this module's own: here it is killed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.browsing import PHONE, Http, Visitor
from tests.web.support.cutting import begin_a_slow_answer, expect_the_stored_text, forgive_cut_connections

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_CITIES = {"name": "cities.csv", "mimeType": "text/csv", "buffer": b"city,inhabitants\nParis,2100000\nRome,2800000\n"}


def _say(page: Page, words: str) -> None:
    page.get_by_label("Message", exact=True).fill(words)
    page.keyboard.press("Enter")


def _ask_for_something_risky(page: Page, url: str) -> Locator:
    """The card of the call, which waits."""
    _say(page, f'POST {{"text": "hello"}} to {url}')
    calls = page.get_by_role("log", name="Messages").get_by_role("region", name="Tool call http_request")
    card = calls.filter(has_text=f"{url} ·")
    expect(card).to_contain_text("Waits for")
    expect(page.get_by_text("Waiting for an approval")).to_be_visible()
    return card


def test_the_readmes_story_is_told_by_clicking_while_the_first_page_watches(
    own_host: AppHost, sink: Sink, visit: Visit
) -> None:
    visitor = visit(own_host)
    page = visitor.open()
    # Open a session and ask something.
    page.get_by_role("button", name="New session").click()
    page.get_by_label("Name", exact=True).fill("The tour")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="The tour")).to_be_visible()
    log = page.get_by_role("log", name="Messages")
    _say(page, "What is 17 * 23?")
    expect(log).to_contain_text("17 * 23 = 391")
    expect(log.get_by_role("region", name="Tool call calculate")).to_contain_text("completed")

    # Ask for something risky; approve on a phone, opened from the address of the page that decides.
    call = _ask_for_something_risky(page, sink.url("/tour"))
    assert sink.at("/tour") == []
    approver = visit(own_host, user="ana;approver", size=PHONE)
    phone = approver.page
    phone.goto(f"/{call.get_by_role('link', name='Review').get_attribute('href')}")
    expect(phone.get_by_role("heading", name="Run http_request?")).to_be_visible()
    expect(phone.get_by_role("region", name="Exact arguments")).to_contain_text(sink.url("/tour"))
    expect(phone.get_by_role("timer")).to_contain_text("h")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.get_by_label("Comment").fill("go ahead")
    phone.get_by_role("button", name="Approve").click()
    expect(phone.get_by_text("by ana")).to_be_visible()
    expect(call).to_contain_text("approved by ana")
    expect(call).to_contain_text("go ahead")
    expect(log.get_by_role("article").last).to_contain_text("offline demo model")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert [request.json() for request in sink.at("/tour")] == [{"text": "hello"}]

    # Send a file and ask about it; take the conversation along as a file.
    page.get_by_label("Attach a file").set_input_files([_CITIES])  # type: ignore[list-item]
    expect(page.get_by_role("list", name="Files to send").locator("li.ready")).to_have_count(1)
    _say(page, "What is in the attached file?")
    expect(log.get_by_role("region", name="Tool call read_attachment")).to_contain_text("completed")
    expect(log.get_by_role("article").last).to_contain_text("Paris")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    header = page.locator(".session-header")
    header.get_by_label("More").click()
    with page.expect_download() as download:
        header.get_by_role("button", name="pdf").click()
    assert download.value.path().read_bytes().startswith(b"%PDF")

    # Look back: search, and the chain of who asked, looked and decided.
    sessions = page.get_by_role("navigation", name="Sessions")
    sessions.get_by_label("Search sessions and messages").fill("inhabitants")
    sessions.get_by_role("region", name="Found in messages").get_by_role("link").first.click()
    expect(page).to_have_url(re.compile("/at/"))
    page.keyboard.press("Escape")
    header.get_by_label("More").click()
    header.get_by_role("link", name="Figures and audit trail").click()
    trail = page.get_by_role("region", name="Audit trail")
    expect(trail).to_contain_text("No line is missing, altered, moved or added.")
    expect(trail.get_by_role("listitem").filter(has_text="approval.decided")).to_contain_text("ana")
    page.go_back()

    # Break it: killed while the turn waits. The printed link still decides, and the page that watched goes on.
    call = _ask_for_something_risky(page, sink.url("/tour-broken"))
    own_host.kill()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    own_host.start()
    expect(page.get_by_text("Reconnecting…")).to_have_count(0)
    expect(call).to_contain_text("Waits for")
    assert sink.at("/tour-broken") == []
    phone.goto(own_host.approve_links()[-1])
    expect(phone.locator("main")).to_contain_text(sink.url("/tour-broken"))
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.get_by_role("button", name="Approve").click()
    expect(phone.locator("main")).to_contain_text("The turn goes on now.")
    expect(call).to_contain_text("approved by dev")
    expect(call).to_contain_text("completed")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert [request.json() for request in sink.at("/tour-broken")] == [{"text": "hello"}]
    forgive_cut_connections(visitor)
    forgive_cut_connections(approver)


def test_a_host_killed_and_restarted_in_mid_stream(own_host: AppHost, visit: Visit) -> None:
    http = Http(own_host.base_url)
    session_id = http.session("Killed")
    visitor = visit(own_host)
    page = visitor.open("sessions", session_id)
    begin_a_slow_answer(page)
    own_host.kill()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    own_host.start()
    expect_the_stored_text(page, http, session_id)
    expect(page.get_by_text("Reconnecting…")).to_have_count(0)
    forgive_cut_connections(visitor)
    http.close()
