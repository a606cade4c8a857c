"""Who else has a shared session open now: in its head, for its people, for as long as their page shows it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.processes import AppHost
from tests.web.support.axe import barriers
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

NARROW = {"width": 360, "height": 740}


def _looks_again(page: Page) -> None:
    """As a page does that comes to the front; it need not be waited for until it asks by itself."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def _set_hidden(page: Page, is_hidden: bool) -> None:
    page.evaluate(
        "hidden => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })", is_hidden
    )


def test_people_of_a_shared_session_see_who_else_has_it_open(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Refund for order 4711, which came twice and was paid once")
    page = visit(parley).page
    with page.expect_response("**/presence"):
        page.goto(f"/#/sessions/{session_id}")
    header = page.locator(".session-header")
    here = header.locator(".here")
    expect(header.get_by_role("heading")).to_be_visible()
    expect(here).to_have_count(0)

    # It is shared while it is open: whoever comes is named, to whoever is there.
    for user in ("rita.bell", "sam"):
        http.put(f"/sessions/{session_id}/participants/{user}", {"access": "read"})
    rita = visit(parley, user="rita.bell;user", size=NARROW)
    rita.expected = re.compile("status of 404")  # once she is taken out
    theirs = rita.open("sessions", session_id)
    their_header = theirs.locator(".session-header")
    expect(their_header.get_by_role("heading")).to_be_visible()
    expect(their_header.locator(".here")).to_have_count(0)
    _looks_again(page)
    expect(here.get_by_text("RB", exact=True)).to_be_visible()
    expect(header.get_by_role("button", name="rita.bell has this session open")).to_be_visible()
    _looks_again(theirs)
    expect(their_header.get_by_role("button", name="olga has this session open")).to_be_visible()
    assert theirs.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Where nothing hovers, a press tells the names; and the title keeps its place.
    their_header.get_by_role("button", name="olga has this session open").click()
    expect(theirs.locator(".said-box")).to_contain_text("olga has this session open.")
    title, width = their_header.locator("h1").bounding_box(), theirs.evaluate("innerWidth")
    assert title is not None
    assert title["width"] > width / 3
    assert barriers(page) == barriers(theirs) == []
    others = visit(parley, user="sam;user").open("sessions", session_id)
    expect(others.get_by_role("button", name="olga and rita.bell have this session open")).to_be_visible()

    # Somebody who is taken out is named no more.
    http.delete(f"/sessions/{session_id}/participants/rita.bell")
    expect(theirs.get_by_text("You can no longer read this session")).to_be_visible()
    _looks_again(page)
    expect(header.get_by_role("button", name="sam has this session open")).to_be_visible()
    expect(here.get_by_text("RB", exact=True)).to_have_count(0)

    # A page that is not shown says nothing, so its reader is soon no longer named.
    said: list[str] = []
    page.on("request", lambda request: said.append(request.url) if request.url.endswith("/presence") else None)
    _set_hidden(page, is_hidden=True)
    _looks_again(page)
    _set_hidden(page, is_hidden=False)
    with page.expect_response("**/presence"):
        _looks_again(page)
    assert len(said) == 1
