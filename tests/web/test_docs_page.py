"""The API's page in a browser: a request is tried from it, and links lead to schemas."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.processes import AppHost
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Visitor

pytestmark = pytest.mark.e2e


def test_a_session_is_created_from_the_page_and_found_by_it(parley: AppHost, visit: Callable[..., Visitor]) -> None:
    page = visit(parley).page
    page.goto("/api/docs")
    page.get_by_label("Try requests as").fill("dora")
    operation = page.locator("#create_session")
    operation.locator("summary").first.click()
    operation.get_by_text("Try it").click()
    operation.get_by_label("Body").fill('{"name": "From the page"}')
    operation.get_by_role("button", name="Send").click()
    told = operation.locator("output")
    expect(told).to_contain_text("201 ")
    expect(told).to_contain_text("location: /api/v1/sessions/")
    session_id = json.loads((told.text_content() or "").partition("\n\n")[2])["id"]

    operation = page.locator("#get_session")
    operation.locator("summary").first.click()
    operation.get_by_text("Try it").click()
    operation.get_by_label("session_id").fill(session_id)
    operation.get_by_role("button", name="Send").click()
    expect(operation.locator("output")).to_contain_text('"name": "From the page"')


def test_examples_are_shown_and_links_lead_to_schemas(parley: AppHost, visit: Callable[..., Visitor]) -> None:
    page = visit(parley).page
    page.goto("/api/docs")
    operation = page.locator("#post_message")
    operation.locator("summary").first.click()
    operation.get_by_text("Example").first.click()
    expect(operation.get_by_text('"content": "What is 17 * 23?"').first).to_be_visible()
    operation.get_by_role("link", name="PostedTurn").first.click()
    expect(page.locator("#PostedTurn pre")).to_be_visible()
    page.locator("#PostedTurn").get_by_role("link", name="Message", exact=True).click()
    expect(page.locator("#Message pre")).to_be_visible()


@pytest.mark.parametrize("size", [None, PHONE], ids=["wide", "phone"])
def test_the_page_fits_its_screen_and_axe_finds_nothing(
    parley: AppHost, visit: Callable[..., Visitor], size: dict[str, int] | None
) -> None:
    page = visit(parley, size=size).page
    page.goto("/api/docs#create_session")
    expect(page.locator("#create_session").get_by_text("Try it")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert barriers(page) == []
