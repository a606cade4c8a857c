"""The local host's own pages in a browser: an instance that waits, drawn; for one who came by the printed address."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.client import post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def waiting(parley: AppHost, sink: Sink) -> str:
    """The id of a turn that waits for an approver; its orchestration has the same."""
    http = Http(parley.base_url)
    session_id = http.session("Seen from the host")
    http.say(session_id, script(content="done", tool_calls=[[post_call(sink.url("/pages"))]]))
    turn_id = str(http.get(f"/sessions/{session_id}/turns")["items"][0]["id"])
    http.close()
    return turn_id


def _let_in(visitor: Visitor, host: AppHost) -> Page:
    """Open the address that `./dev up` prints."""
    page = visitor.page
    page.goto(f"/admin/pages?code={host.admin_headers['x-functions-key']}")
    assert urlsplit(page.url)[2:] == ("/admin/pages", "", ""), "the key is out of the address"
    return page


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", None), ("dark", None), ("light", PHONE)], ids=["light", "dark", "phone"]
)
def test_every_page_is_drawn_as_told_and_axe_finds_nothing(
    parley: AppHost, visit: Visit, waiting: str, scheme: str, size: dict[str, int] | None
) -> None:
    page = _let_in(visit(parley, scheme=scheme, size=size), parley)
    found = []
    for path, heading in (
        ("", "This host"),
        ("/durableTask?status=Running", "Orchestration instances"),
        (f"/durableTask/{waiting}", f"Instance {waiting}"),
    ):
        page.goto(f"/admin/pages{path}")
        expect(page.get_by_role("heading", level=1, name=heading, exact=True)).to_be_visible()
        # The tables scroll by themselves; the page does not, on any screen.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found += [f"{path}: {line}" for line in barriers(page)]
    assert found == []


def test_a_waiting_turn_is_a_picture_and_leads_to_its_approval(parley: AppHost, visit: Visit, waiting: str) -> None:
    page = _let_in(visit(parley), parley)
    page.get_by_role("row", name=re.compile(f"^{waiting} ")).get_by_role("link").click()
    picture = page.get_by_role("img", name=f"Timeline of {waiting}: ")
    expect(picture).to_be_visible()
    expect(picture.locator("g.activity title").first).to_contain_text("call_model · ")
    bar = picture.locator("g.sub rect.open")
    box, frame = bar.bounding_box(), picture.bounding_box()
    assert box is not None
    assert frame is not None
    # What is open reaches the present, the right edge.
    assert abs(box["x"] + box["width"] - frame["x"] - frame["width"]) < 2
    # The policy let the style sheet work.
    assert bar.evaluate("bar => getComputedStyle(bar).strokeDasharray") != "none"

    page.get_by_role("region", name="Sub-orchestrations").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1, name="Instance")).to_be_visible()
    expect(page.get_by_role("row", name="Orchestrator approval", exact=True)).to_be_visible()
    page.get_by_role("link", name=waiting, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=f"Instance {waiting}")).to_be_visible()
