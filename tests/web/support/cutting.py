"""An answer that is cut in its middle, and what a page must show in the end all the same: the stored text, once."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.e2e.support.client import script
from tests.web.support.browsing import Http, Visitor

# About three seconds of text: long enough to be cut in the middle.
_SLOW = script(tokens=100, token_ms=30)
_CUT = re.compile(r"Failed to load resource: net::ERR_|WebSocket connection to .* failed")


def begin_a_slow_answer(page: Page) -> None:
    page.get_by_label("Message", exact=True).fill(_SLOW)
    page.keyboard.press("Enter")
    wait_for_words(page, 8)


def wait_for_words(page: Page, count: int) -> None:
    answer = page.locator(".message.assistant .said").last
    expect(answer).to_have_text(re.compile(rf"(\S+\s+){{{count},}}"))


def expect_the_stored_text(page: Page, http: Http, session_id: str) -> None:
    """Of the one answer of the session, once it is complete."""
    answers = page.locator(".message.assistant")
    expect(answers.last).to_have_attribute("aria-busy", "false")
    expect(answers).to_have_count(1)
    shown = answers.locator(".markdown").inner_text()
    assert " ".join(shown.split()) == _stored(http, session_id)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def forgive_cut_connections(visitor: Visitor) -> None:
    """The browser itself notes each refused connection, some of them late; nothing else may have been said."""
    visitor.expected = _CUT
    visitor.logged[:] = [line for line in visitor.logged if not _CUT.search(line)]


def _stored(http: Http, session_id: str) -> str:
    [answer] = http.get(f"/sessions/{session_id}/messages", role="assistant")["items"]
    assert answer["status"] == "completed"
    return " ".join(answer["content"].split())
