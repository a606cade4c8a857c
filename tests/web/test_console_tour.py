"""The README's tour by clicking: a session, an answer, a risky call that waits, an approval, the rest of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.processes import AppHost, Sink
from tests.web.browsing import PHONE, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_the_tour(parley: AppHost, sink: Sink, visit: Visit) -> None:
    visitor = visit(parley)
    page = visitor.open()
    page.get_by_role("button", name="New session").click()
    page.get_by_label("Name", exact=True).fill("The tour")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="The tour")).to_be_visible()

    page.get_by_label("Message", exact=True).fill("What is 17 * 23?")
    page.keyboard.press("Enter")
    log = page.get_by_role("log", name="Messages")
    expect(log).to_contain_text("17 * 23 = 391")
    expect(log.get_by_role("region", name="Tool call calculate")).to_contain_text("completed")

    page.get_by_label("Message", exact=True).fill(f'POST {{"text": "hello"}} to {sink.url("/tour")}')
    page.get_by_role("button", name="Send").click()
    call = log.get_by_role("region", name="Tool call http_request")
    expect(call).to_contain_text("Waits for")
    expect(page.get_by_text("Waiting for an approval")).to_be_visible()
    assert sink.at("/tour") == []

    # An approver's phone, opened from a link; the first page watches.
    approver = visit(parley, user="ana;approver", size=PHONE)
    phone = approver.open("approvals")
    phone.get_by_role("link", name=re.compile("http_request")).filter(has_text="/tour").click()
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
