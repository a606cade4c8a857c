"""What a model, a tool or another person wrote stays text; and every page can be used by everybody."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import pytest
from playwright.sync_api import Request, expect

from shared.signing import ApprovalLinks
from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import LINK_SECRET, AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_HOSTILE = """Text <script>window.hit = 1</script> more
<img src="http://127.0.0.1:9/pixel.png" onerror="window.hit = 2">

<iframe src="http://127.0.0.1:9/frame"></iframe>

![a picture](http://127.0.0.1:9/remote.png) [run me](javascript:window.hit=3)
[data](data:text/html,<script>window.hit=4</script>) [a page](https://example.com/where?it=goes)
<https://example.org/plain> [inside](/#/approvals) <svg onload="window.hit=5"><style>body{display:none}</style>

`<b>code</b>` and &lt;script&gt;window.hit = 6&lt;/script&gt; THE END
"""


def test_nothing_a_model_or_a_tool_wrote_is_executed_loaded_or_linked_unseen(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    session_id = http.session('<img src=x onerror="window.hit=9">')
    marked_up = "<img src=http://127.0.0.1:9/x.png onerror=window.hit=7>"
    http.say(session_id, script(content=_HOSTILE, tool_calls=[[call("calculate", expression=marked_up)]]))
    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/hostile"), marked_up)]]))
    [approval] = http.get("/approvals", session_id=session_id)["items"]

    visitor = visit(parley)
    requests: list[Request] = []
    visitor.page.on("request", lambda request: requests.append(request))
    page = visitor.open("sessions", session_id)
    log = page.get_by_role("log", name="Messages")
    expect(log).to_contain_text("THE END")
    expect(log).to_contain_text("<script>window.hit = 1</script>")
    expect(log).to_contain_text("<script>window.hit = 6</script>")

    assert log.locator("script, img, iframe, svg:not(.i), style, object, embed, [onerror], [onload]").count() == 0
    targets = {link.get_attribute("href"): link.inner_text() for link in log.locator(".markdown a").all()}
    assert set(targets) == {
        "http://127.0.0.1:9/remote.png",
        "https://example.com/where?it=goes",
        "https://example.org/plain",
    }
    # Each shows where it leads.
    assert all(str(target) in words for target, words in targets.items())
    assert all(link.get_attribute("rel") == "noopener noreferrer nofollow" for link in log.locator(".markdown a").all())

    page.goto(f"/#/approvals/{approval['id']}")
    expect(page.get_by_role("region", name="Exact arguments")).to_contain_text(marked_up)
    assert page.locator("main img").count() == 0
    http.post(f"/approvals/{approval['id']}/decision", {"decision": "reject"})
    expect(page.locator(".outcome")).to_contain_text("rejected by olga")

    assert page.evaluate("window.hit") is None
    own = (visitor.base_url, f"{parley.base_url}/client/", "blob:")
    assert [request.url for request in requests if not request.url.startswith(own)] == []


def test_an_inline_script_could_not_run_even_if_one_got_in(parley: AppHost, visit: Visit) -> None:
    visitor = visit(parley)
    page = visitor.open()
    refused = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener('securitypolicyviolation', (event) => resolve(event.violatedDirective))
            const script = document.createElement('script')
            try { script.textContent = 'window.hit = 1' } catch (error) { resolve('trusted types') }
            document.body.append(script)
        })"""
    )
    assert refused in {"require-trusted-types-for", "script-src-elem", "trusted types"}
    assert page.evaluate("window.hit") is None
    assert visitor.logged != []  # the browser tells of it, as it should
    visitor.logged.clear()


class Scene(NamedTuple):
    """A session with something of everything in it, whose last turn waits for an approval."""

    session_id: str
    turn_id: str
    approval_id: str
    link: str


@pytest.fixture(scope="module")
def scene(parley: AppHost, sink: Sink) -> Scene:
    http = Http(parley.base_url)
    session_id = http.session("A scene")
    http.put(f"/sessions/{session_id}/tags/important")
    table = "## Head\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> quote `code`\n\n```py\nx = 1\n```\n\n[page](https://example.com/a)"
    http.say(session_id, script(content=table, tool_calls=[[call("calculate", expression="1+1")]]))
    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/scene"))]]))
    [approval] = http.get("/approvals", session_id=session_id)["items"]
    http.put("/schedules/scene-daily", {"content": "What is new?", "cron": "0 0 9 * * *"})
    http.put("/triggers/scene-order", {"content": "An order came in."})
    http.post("/webhooks", {"url": sink.url("/scene-hook"), "events": ["turn.waiting"]})
    http.close()
    expires_at = datetime.fromisoformat(approval["expires_at"])
    link = ApprovalLinks(LINK_SECRET, "").url(approval["id"], expires_at=expires_at)
    return Scene(session_id, approval["turn_id"], approval["id"], link)


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", None), ("dark", None), ("light", PHONE)], ids=["light", "dark", "phone"]
)
def test_axe_finds_nothing(
    parley: AppHost, visit: Visit, scene: Scene, scheme: str, size: dict[str, int] | None
) -> None:
    session_id = scene.session_id
    page = visit(parley, scheme=scheme, size=size).open()
    expect(page.get_by_role("link", name=re.compile("A scene"))).to_be_visible()
    found = barriers(page)
    for path, seen in (
        (f"sessions/{session_id}", page.get_by_text("Waits for any")),
        ("approvals", page.get_by_role("link", name=re.compile("http_request")).first),
        (f"approvals/{scene.approval_id}", page.get_by_role("button", name="Approve")),
        ("insight", page.get_by_role("img", name="Tokens:")),
        (f"insight/{session_id}", page.get_by_role("img", name="Tokens by turn")),
        ("agents", page.get_by_role("main").get_by_role("link", name=re.compile("Assistant"))),
        ("agents/assistant", page.get_by_role("region", name="Tools").get_by_role("listitem").first),
        ("build", page.get_by_role("main").get_by_role("link", name="Webhooks")),
        ("playground/assistant@1/assistant@1", page.get_by_label("Version B")),
        ("policies", page.get_by_label("Policy of the tool")),
        ("tools", page.get_by_role("list", name="Tools").get_by_role("listitem").first),
        ("mcp", page.get_by_role("heading", name="MCP servers")),
        ("schedules", page.get_by_role("list", name="Schedules").get_by_role("listitem").first),
        ("triggers", page.get_by_role("list", name="Triggers").get_by_role("listitem").first),
        ("webhooks", page.get_by_role("list", name="Webhooks").get_by_role("listitem").first),
        (f"sessions/{session_id}/turns/{scene.turn_id}", page.get_by_role("heading", name="One turn")),
    ):
        page.goto(f"/#/{path}")
        expect(seen).to_be_visible()
        found += [f"{path}: {line}" for line in barriers(page)]
    page.goto("/#/sessions")
    page.get_by_role("button", name="New session").click()
    expect(page.get_by_role("radio", name=re.compile("Research"))).to_be_visible()
    found += [f"dialog: {line}" for line in barriers(page)]
    page.keyboard.press("Escape")
    page.goto(f"/#/sessions/{session_id}")
    header = page.locator(".session-header")
    header.get_by_title("Agent").click()
    expect(page.get_by_role("radio", name=re.compile("Assistant"))).to_be_visible()
    found += [f"agent: {line}" for line in barriers(page)]
    page.keyboard.press("Escape")
    header.get_by_label("Share", exact=True).click()
    expect(page.get_by_text("Nobody else can see it.")).to_be_visible()
    found += [f"share: {line}" for line in barriers(page)]
    page.keyboard.press("Escape")
    header.get_by_label("More").click()
    header.get_by_role("button", name="Checkpoints and branches").click()
    expect(page.get_by_text("Before “").first).to_be_visible()
    found += [f"places: {line}" for line in barriers(page)]
    assert found == []


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", None), ("dark", None), ("dark", PHONE)], ids=["light", "dark", "phone"]
)
def test_axe_finds_nothing_on_the_pages_that_need_no_script(
    parley: AppHost, visit: Visit, scene: Scene, scheme: str, size: dict[str, int] | None
) -> None:
    visitor = visit(parley, scheme=scheme, size=size)
    visitor.expected = re.compile("status of 404")
    page, found = visitor.page, []
    for path, folded in (
        (scene.link, page.get_by_text("Approve with other arguments")),
        ("/api/approve/no-such-link", None),
        ("/api/docs", page.locator("summary").filter(has_text="Post a message and start its turn")),
    ):
        page.goto(path)
        if folded is not None:
            folded.click()
        found += [f"{path}: {line}" for line in barriers(page)]
    assert found == []


def test_a_theme_that_is_chosen_holds_against_the_systems(parley: AppHost, visit: Visit) -> None:
    page = visit(parley, scheme="light").open()
    ink = "() => getComputedStyle(document.body).color"
    light = page.evaluate(ink)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(ink)
    assert dark != light
    page.reload()
    expect(page.locator("main")).to_be_visible()
    assert page.evaluate(ink) == dark
    page.get_by_role("button", name="Light or dark").click()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ink) == light


def test_a_session_is_opened_used_and_left_by_keyboard_alone(parley: AppHost, visit: Visit) -> None:
    page = visit(parley).open("insight")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.goto("/#/sessions")
    # Where no session is open, one can write at once.
    expect(page.get_by_label("First message")).to_be_focused()
    new = page.get_by_role("button", name="New session")
    for _ in range(200):
        if new.evaluate("node => node === document.activeElement"):
            break
        page.keyboard.press("Shift+Tab")
    expect(new).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(new).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("What is 2 * 21?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Thanks.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("log", name="Messages")).to_contain_text("2 * 21 = 42")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")


def test_a_page_that_is_left_as_soon_as_it_is_drawn_is_left(parley: AppHost, visit: Visit) -> None:
    """Before the browser has painted it: a link is followed, or a key is pressed, in the same instant."""
    visitor = visit(parley)
    visitor.page.add_init_script(
        """new MutationObserver((_, drawn) => {
            if (document.querySelector('main') === null) return
            drawn.disconnect()
            location.hash = '#/insight'
            const key = new KeyboardEvent('keydown', { key: 'k', ctrlKey: true })
            addEventListener('hashchange', () => dispatchEvent(key), { once: true })
        }).observe(document, { childList: true, subtree: true })"""
    )
    page = visitor.open("approvals")
    expect(page.get_by_role("heading", name="Insight")).to_be_visible()
    expect(page.get_by_role("dialog", name="Go to")).to_be_visible()
