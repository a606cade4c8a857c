"""A user's webhooks in the console: their state, their last deliveries, and sending one again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import PATIENCE_MS, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

PATH = "/of-wanda"
USER = "wanda;user,admin"  # who may see the metrics of the page before


def test_ones_webhooks_are_listed_and_a_delivery_is_sent_again(
    parley: AppHost, sink: Sink, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    http = Http(parley.base_url, USER)
    monkeypatch.setattr(sink, "status_of", lambda request: 503 if request.path == PATH else 200)
    page = visit(parley, user=USER).open("insight")
    page.get_by_role("link", name="Your webhooks").click()
    expect(page.get_by_text("No webhooks")).to_be_visible()
    made = {"url": sink.url(PATH), "events": ["turn.completed"], "description": "<b>Mine</b>"}
    hook = http.post("/webhooks", made)
    http.say(http.session("Told"), script(content="done"))
    _swept(parley, sink, 1)

    _shown(page, "The receiver answered 503.")
    card = page.get_by_role("list", name="Webhooks")
    for text in (sink.url(PATH), "<b>Mine</b>", "turn.completed", "its receiver takes nothing", "pending", "1 try"):
        expect(card).to_contain_text(text)
    assert hook["secret"] not in page.content()
    assert barriers(page) == []
    page.screenshot(path=tmp_path / "webhooks.png", full_page=True)

    monkeypatch.undo()
    card.get_by_role("button", name="Send again").click()
    expect(card).to_contain_text("Not tried yet")
    _swept(parley, sink, 2)
    _shown(page, "The receiver answered 200.")
    expect(card).to_contain_text("delivered")

    http.patch(f"/webhooks/{hook['id']}", {"enabled": False})
    _shown(page, "Its owner switched it off.")
    expect(card.get_by_role("button", name="Send again")).to_have_count(0)
    card.get_by_role("button", name="Switch it on").click()
    expect(card.get_by_text("Its owner switched it off.")).to_have_count(0)
    assert http.get(f"/webhooks/{hook['id']}")["enabled"]
    http.close()


def _swept(parley: AppHost, sink: Sink, count: int) -> None:
    """Run the sweep until the receiver has been asked so often."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while len(sink.at(PATH)) < count:
        assert time.monotonic() < deadline
        url = f"{parley.base_url}/admin/functions/sweep"
        httpx.post(url, json={"input": ""}, headers=parley.admin_headers, trust_env=False).raise_for_status()
        time.sleep(0.2)


def _shown(page: Page, text: str) -> None:
    """Load the page until it shows this: an outcome is stored after the answer."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while True:
        page.reload()
        expect(page.get_by_role("list", name="Deliveries to")).to_be_visible()
        if page.get_by_text(text).count():
            return
        assert time.monotonic() < deadline, text
