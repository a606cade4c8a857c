"""The main pages as pictures: each is drawn whole and without a word in the log; the README and the docs show them.

They are written to `docs/images` when `CONSOLE_PICTURES` is set, and to the test's own folder otherwise: pixels differ
between machines, and a test run must leave the checkout as it was. What they show was said by `support/shop.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import ROOT, Sink
from tests.web.support.browsing import Visitor
from tests.web.support.shop import FINANCE, MARA, SAID, Shop, count_days, open_shop

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

WIDE = {"width": 1360, "height": 860}
TALL = {"width": 390, "height": 1190}
"""A phone, and what one scrolls to."""

# The lines that steer the scripted model are no part of the console.
_WITHOUT_STAGE_DIRECTIONS = """() => {
    const clean = said => said.split('\\n').filter(line => !line.startsWith('#script')).join('\\n')
    for (const said of document.querySelectorAll('.plain, .excerpt, pre.json'))
        if (said.textContent.includes('#script')) said.textContent = clean(said.textContent)
    for (const box of document.querySelectorAll('textarea')) box.value = clean(box.value)
    // What is cut before their end is nothing else.
    for (const said of document.querySelectorAll('.snippet'))
        if (/#script|\\\\n|"(content|tool_calls)"/.test(said.textContent)) said.closest('li').remove()
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ROOT / "docs" / "images" if os.environ.get("CONSOLE_PICTURES") else tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[Shop]:
    person_s = 20 if os.environ.get("CONSOLE_PICTURES") else 0
    with open_shop(tmp_path_factory.mktemp("shop"), model_url, sink, person_s=person_s) as shop:
        yield shop


def _take(page: Page, path: Path) -> None:
    page.evaluate(_WITHOUT_STAGE_DIRECTIONS)
    page.mouse.move(0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, animations="disabled", caret="hide")
    assert path.stat().st_size > 5_000, "an empty page compresses to less"


def test_the_start_page(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=MARA, size=WIDE).open("sessions")
    expect(page.get_by_role("radio", name=re.compile("Concierge"))).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("cracked tank"))).to_be_visible()
    page.get_by_role("radio", name=re.compile("Concierge")).check()
    page.get_by_label("First message").fill("My grinder makes a strange noise since this morning. Can you help?")
    _take(page, folder / "start.png")


def test_the_chat(shop: Shop, visit: Visit, folder: Path) -> None:
    for user in ("jonas.weber;user", "ana;approver"):
        other = visit(shop.host, user=user).open("sessions", shop.refund)
        expect(other.get_by_role("heading", name="Espresso machine: cracked tank")).to_be_visible()
    for scheme in ("light", "dark"):
        page = visit(shop.host, user=MARA, scheme=scheme, size=WIDE).open("sessions", shop.refund)
        expect(page.get_by_text("Waits for 2 people")).to_be_visible()
        expect(page.get_by_role("button", name="ana and jonas.weber have this session open")).to_be_visible()
        _take(page, folder / f"chat-{scheme}.png")


def test_the_inbox(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=FINANCE[0], size=WIDE).open("approvals")
    asked = page.get_by_role("article").filter(has_text="A-2041")
    expect(asked).to_contain_text("The refund, please.")
    expect(asked.get_by_role("button", name="Approve")).to_be_visible()
    _take(page, folder / "inbox.png")


def test_the_approval_on_a_phone(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=FINANCE[1], size=TALL).open("approvals", shop.approval())
    expect(page.get_by_role("group", name="What led to it")).to_contain_text("The refund, please.")
    _take(page, folder / "approval-phone.png")


def test_the_timeline_of_a_turn(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=MARA, size=WIDE).open("sessions", shop.asked, "turns", shop.asked_turn)
    tree = page.get_by_role("tree", name="Timeline")
    expect(tree.get_by_role("treeitem", name="waited for a person")).to_be_visible()
    tree.get_by_role("treeitem", name="support").filter(has_text="version").click()
    expect(page.get_by_role("region", name="Details of support")).to_contain_text("gpt-5.4-mini")
    _take(page, folder / "timeline.png")


def test_search(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=MARA, size=WIDE).open("sessions", shop.refund)
    sessions = page.get_by_role("navigation", name="Sessions")
    sessions.get_by_label("Search sessions and messages").fill("warranty")
    found = sessions.get_by_role("region", name="Found in messages").get_by_role("link")
    found.filter(has_text="A cracked tank is covered").first.click()
    expect(page.get_by_role("log").get_by_text("What would you like?", exact=True)).to_be_visible()
    _take(page, folder / "search.png")


def test_insight(shop: Shop, visit: Visit, folder: Path) -> None:
    count_days(shop)
    page = visit(shop.host, user=MARA, size={"width": 1360, "height": 1160}).open("insight")
    expect(page.get_by_role("img", name="Tokens:")).to_be_visible()
    expect(page.get_by_text("Waiting approvals")).to_be_visible()
    _take(page, folder / "insight.png")


def test_an_agent_with_a_test_run_beside_its_form(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=MARA, size=WIDE).open("agents", "returns")
    expect(page.get_by_role("heading", name="Returns")).to_be_visible()
    form = page.get_by_label("Instructions")
    said = SAID["trial"]
    form.fill(form.input_value() + said["change"])
    run = page.get_by_role("region", name="Test run")
    asked = f"{script(content=said['answer'])}\n{said['question']}"
    run.get_by_label("Test message", exact=True).fill(asked)
    run.get_by_role("button", name="Run").click()
    expect(run.get_by_label("What it took")).to_contain_text("completed")
    _take(page, folder / "agent.png")


def test_two_versions_in_the_playground(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=MARA, size=WIDE).open("playground", "returns@1", "returns@3")
    said = SAID["playground"]

    def direct(route: Route) -> None:
        """One message goes to both; what either version is to answer is a stage direction."""
        body: dict[str, Any] = route.request.post_data_json
        session = page.request.get(route.request.url.rpartition("/")[0], headers={"x-dev-user": MARA}).json()
        body["content"] = f"{script(content=said['answers'][str(session['agent_version'])])}\n{body['content']}"
        route.continue_(post_data=body)

    page.route(re.compile(r"/sessions/[^/]+/messages$"), direct)
    page.get_by_label("Message to both").fill(said["question"])
    page.get_by_role("button", name="Send to both").click()
    for side in ("A", "B"):
        answers = page.get_by_role("log", name=f"Answers of {side}")
        expect(answers.get_by_label("What it took")).to_contain_text("completed")
    _take(page, folder / "playground.png")


def test_schedules(shop: Shop, visit: Visit, folder: Path) -> None:
    page = visit(shop.host, user=MARA, size=WIDE).open("schedules")
    expect(page.get_by_role("list", name="Schedules").get_by_role("listitem")).to_have_count(3)
    _take(page, folder / "schedules.png")
