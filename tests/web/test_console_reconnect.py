"""Whatever is cut in mid-stream — a reload, the network, the host — a page ends with the text that is stored, once."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.client import script
from tests.e2e.processes import AppHost
from tests.web.browsing import OWNER, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

# About three seconds of text: long enough to be cut in the middle.
_SLOW = script(tokens=100, token_ms=30)
_CUT = re.compile(r"Failed to load resource: net::ERR_|WebSocket connection to .* failed")


@pytest.fixture
def http_own(own_host: AppHost) -> Http:
    return Http(own_host.base_url)


def _begin(page: Page) -> None:
    page.get_by_label("Message", exact=True).fill(_SLOW)
    page.keyboard.press("Enter")
    _wait_for_words(page, 8)


def _wait_for_words(page: Page, count: int) -> None:
    answer = page.locator(".message.assistant .said").last
    expect(answer).to_have_text(re.compile(rf"(\S+\s+){{{count},}}"))


def _stored(http: Http, session_id: str) -> str:
    [answer] = http.get(f"/sessions/{session_id}/messages", role="assistant")["items"]
    assert answer["status"] == "completed"
    return " ".join(answer["content"].split())


def _expect_the_stored_text(page: Page, http: Http, session_id: str) -> None:
    answers = page.locator(".message.assistant")
    expect(answers.last).to_have_attribute("aria-busy", "false", timeout=60_000)
    expect(answers).to_have_count(1)
    shown = answers.locator(".markdown").inner_text()
    assert " ".join(shown.split()) == _stored(http, session_id)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def _forgive_cut_connections(visitor: Visitor) -> None:
    """The browser itself notes each refused connection, some of them late; nothing else may have been said."""
    visitor.expected = _CUT
    visitor.logged[:] = [line for line in visitor.logged if not _CUT.search(line)]


def test_a_reload_and_a_second_tab_in_mid_stream_show_the_same(own_host: AppHost, http_own: Http, visit: Visit) -> None:
    session_id = http_own.session("Twice")
    visitor = visit(own_host)
    first = visitor.open("sessions", session_id)
    _begin(first)
    second = visitor.tab()
    second.goto(f"/#/sessions/{session_id}")
    _wait_for_words(second, 8)
    first.reload()
    _wait_for_words(first, 8)
    _expect_the_stored_text(first, http_own, session_id)
    _expect_the_stored_text(second, http_own, session_id)

    # What one says in one tab, the other shows.
    second.get_by_label("Message", exact=True).fill(script(content="Heard in both."))
    second.keyboard.press("Enter")
    expect(first.locator(".message.assistant").last).to_contain_text("Heard in both.")


def test_a_lost_network_in_mid_stream(own_host: AppHost, http_own: Http, visit: Visit) -> None:
    session_id = http_own.session("Offline")
    visitor = visit(own_host)
    page = visitor.open("sessions", session_id)
    _begin(page)
    visitor.context.set_offline(True)
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    before = page.locator(".message.assistant .markdown").inner_text()
    assert before
    visitor.context.set_offline(False)
    expect(page.get_by_text("Reconnecting…")).to_have_count(0)
    _expect_the_stored_text(page, http_own, session_id)
    _forgive_cut_connections(visitor)


def test_a_host_killed_and_restarted_in_mid_stream(own_host: AppHost, http_own: Http, visit: Visit) -> None:
    session_id = http_own.session("Killed")
    visitor = visit(own_host, user=OWNER)
    page = visitor.open("sessions", session_id)
    _begin(page)
    own_host.kill()
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    own_host.start()
    _expect_the_stored_text(page, http_own, session_id)
    expect(page.get_by_text("Reconnecting…")).to_have_count(0)
    _forgive_cut_connections(visitor)
