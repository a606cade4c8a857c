"""The main pages as pictures: each is drawn whole and without a word in the log; the README shows them.

They are written to `docs/images` when `CONSOLE_PICTURES` is set, and to the test's own folder otherwise: pixels differ
between machines, and a test run must leave the checkout as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import ROOT, AppHost, Sink
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_ANSWER = """Here is what I found for **the March invoice**:

| Position | Hours | Amount |
|---|---:|---:|
| Design review | 12 | € 1,440 |
| Load test | 7.5 | € 900 |
| *Total* | 19.5 | **€ 2,340** |

1. The hours agree with the time sheet.
2. The rate is the one of [the framework contract](https://example.com/contracts/17).

I can book it now. Since booking changes the ledger, a person has to allow it:

```json
{"invoice": "2026-03", "amount": 2340}
```
"""


# The lines that steer the scripted model are no part of the console.
_WITHOUT_STAGE_DIRECTIONS = """() => {
    for (const said of document.querySelectorAll('.plain, .excerpt')) {
        const [first, ...rest] = said.textContent.split('\\n')
        if (first.startsWith('#script')) said.textContent = rest.join('\\n')
    }
    // A preview is cut before their end.
    for (const said of document.querySelectorAll('.preview'))
        if (said.textContent.startsWith('#script')) said.textContent = 'Book it.'
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ROOT / "docs" / "images" if os.environ.get("CONSOLE_PICTURES") else tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def scene(parley: AppHost, sink: Sink) -> Iterator[tuple[str, str]]:
    """A conversation in which a booking waits; its session and its approval."""
    http = Http(parley.base_url, "mara;approver,admin")
    for name, tag in (("Release notes for 4.2", "work"), ("Holiday plans", "personal"), ("Postmortem draft", "review")):
        session_id = http.session(name)
        http.put(f"/sessions/{session_id}/tags/{tag}")
        http.say(session_id, script(content="Done.", tool_calls=[[call("calculate", expression="6 * 7")]]))
    session_id = http.session("March invoice")
    http.put(f"/sessions/{session_id}/tags/important")
    http.say(
        session_id,
        script(content=_ANSWER, tool_calls=[[call("calculate", expression="(12 + 7.5) * 120")]])
        + "\nCheck the March invoice against the time sheet, please.",
    )
    body = '{"invoice": "2026-03", "amount": 2340}'
    http.say(session_id, script(content="Booked.", tool_calls=[[post_call(sink.url("/ledger"), body)]]) + "\nBook it.")
    [approval] = http.get("/approvals", session_id=session_id)["items"]
    yield session_id, approval["id"]
    http.post(f"/approvals/{approval['id']}/decision", {"decision": "reject"})
    http.close()


def _take(page: Page, path: Path) -> None:
    # The lines that steer the scripted model are no part of the console.
    page.evaluate(_WITHOUT_STAGE_DIRECTIONS)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, animations="disabled", caret="hide")
    assert path.stat().st_size > 5_000, "an empty page compresses to less"


def test_the_chat(parley: AppHost, visit: Visit, scene: tuple[str, str], folder: Path) -> None:
    for scheme in ("light", "dark"):
        page = visit(parley, user="mara;approver,admin", scheme=scheme).open("sessions", scene[0])
        expect(page.get_by_text("Waits for any")).to_be_visible()
        expect(page.get_by_role("link", name="Postmortem draft")).to_be_visible()
        _take(page, folder / f"chat-{scheme}.png")


def test_the_approval_on_a_phone(parley: AppHost, visit: Visit, scene: tuple[str, str], folder: Path) -> None:
    page = visit(parley, user="ana;approver", size=PHONE).open("approvals", scene[1])
    expect(page.get_by_role("group", name="What led to it")).to_contain_text("Book it.")
    _take(page, folder / "approval-phone.png")


def test_the_inbox(parley: AppHost, visit: Visit, scene: tuple[str, str], folder: Path) -> None:
    page = visit(parley, user="ana;approver").open("approvals")
    expect(page.get_by_role("article").filter(has_text="/ledger")).to_contain_text("Book it.")
    _take(page, folder / "inbox.png")


def test_insight(parley: AppHost, visit: Visit, scene: tuple[str, str], folder: Path) -> None:
    page = visit(parley, user="mara;approver,admin").open("insight")
    expect(page.get_by_role("img", name="Tokens:")).to_be_visible()
    expect(page.get_by_text("Waiting approvals")).to_be_visible()
    _take(page, folder / "insight.png")


def test_the_timeline_of_a_turn(parley: AppHost, visit: Visit, scene: tuple[str, str], folder: Path) -> None:
    page = visit(parley, user="mara;approver,admin").open("sessions", scene[0])
    page.get_by_role("link", name="Timeline").first.click()
    expect(page.get_by_role("tree", name="Timeline")).to_be_visible()
    page.get_by_role("treeitem", name="calculate").click()
    expect(page.get_by_role("region", name="Details of calculate")).to_contain_text("Result")
    _take(page, folder / "timeline.png")
