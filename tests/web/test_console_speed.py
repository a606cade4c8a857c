"""Long things stay light: a long history is never whole in the document, a long answer never waits for the page."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import ROOT, AppHost
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_MANY = """
    INSERT INTO messages (id, session_id, number, turn_number, step, ordinal, role, content, status, tokens, created_at)
    SELECT to_char(n, 'FM00000000') || '-many-' || %(session)s, %(session)s, n, n, 0, 0,
           CASE n %% 2 WHEN 1 THEN 'user' ELSE 'assistant' END,
           'Message number ' || n || repeat(' and some more words of it', n %% 7), 'completed', 5, %(now)s
    FROM generate_series(1, 2000) n
"""

_SESSIONS = """
    INSERT INTO sessions (id, owner_id, name, status, config, created_at, updated_at, event_seq_ceiling)
    SELECT 'sped-' || n, 'speedy', 'Number ' || n, 'ACTIVE', '{}', %(now)s, %(now)s - n * interval '1 minute', 0
    FROM generate_series(1, 1000) n
"""
# Until what was asked for is in the page and a frame with it was drawn.
_OPENED = """([address, selector, text]) => new Promise(done => {
    const began = performance.now()
    const look = () => {
        const found = [...document.querySelectorAll(selector)].some(node => node.textContent.includes(text))
        if (found) requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)))
        else requestAnimationFrame(look)
    }
    location.hash = address
    requestAnimationFrame(look)
})"""

_SCROLLED = """async (steps) => {
    const box = document.querySelector('[data-scroller]')
    let step = -150
    for (let done = 0; done < steps; done++) {
        if (box.scrollTop < 3000) step = 150
        if (box.scrollTop > box.scrollHeight - box.clientHeight - 300) step = -150
        box.scrollTop += step
        await new Promise(requestAnimationFrame)
    }
}"""
_STEPS = 96


def _scrolling(page: Page) -> float:
    """Seconds that the page's main thread works to scroll up and down, each step drawn: by its own clock, for a busy
    machine makes it wait and not work."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    devtools.send("Performance.enable")

    def worked() -> float:
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    before = worked()
    page.evaluate(_SCROLLED, _STEPS)
    done = worked() - before
    devtools.detach()
    return done


def test_two_thousand_messages_scroll_as_lightly_as_a_hundred_with_few_of_them_in_the_document(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Long")
    with psycopg.connect(parley.environment["POSTGRES_URL"]) as database:
        database.execute(_MANY, {"session": session_id, "now": datetime.now(UTC)})
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_role("log").get_by_text("Message number 2000")).to_be_in_viewport()
    short = _scrolling(page)
    assert page.get_by_role("button", name="Earlier messages").count() == 1, "only the first hundred are here"
    walked = page.evaluate(
        """async () => {
            const box = document.querySelector('[data-scroller]')
            const frame = () => new Promise(requestAnimationFrame)
            let most = 0, frames = 0
            const first = () => document.querySelector('article')?.innerText ?? ''
            while (!/Message number 1\\b/.test(first()) && frames < 20000) {
                box.scrollTop = Math.max(0, box.scrollTop - 1500)
                await frame()
                frames += 1
                most = Math.max(most, document.querySelectorAll('article').length)
            }
            return { most, frames, first: first() }
        }"""
    )
    assert re.search(r"Message number 1\b", walked["first"])
    assert walked["most"] < 400
    # Twenty times as many messages.
    assert _scrolling(page) < 3 * short
    page.get_by_role("button", name="Latest").click()
    expect(page.get_by_role("log").get_by_text("Message number 2000")).to_be_in_viewport()


def test_long_things_open_and_how_fast_is_written_down(parley: AppHost, visit: Visit, tmp_path: Path) -> None:
    """The times are figures and no promise here; `CONSOLE_SPEED=1` writes them to `docs/console-speed.json`."""
    http = Http(parley.base_url, "speedy;user")
    session_id = http.session("Long")
    with psycopg.connect(parley.environment["POSTGRES_URL"]) as database:
        database.execute(_MANY, {"session": session_id, "now": datetime.now(UTC)})
        database.execute(_SESSIONS, {"now": datetime.now(UTC)})
    page = visit(parley, user="speedy;user").open("build")
    opened: dict[str, list[float]] = {"open_2000_messages_ms": [], "list_1000_sessions_ms": []}
    for _ in range(5):
        expect(page.get_by_role("heading", name="Build")).to_be_visible()
        listed = page.evaluate(_OPENED, ["#/sessions", ".sessions .rows a", "Number 1"])
        expect(page.get_by_role("navigation", name="Sessions").get_by_role("listitem")).to_have_count(100)
        shown = page.evaluate(_OPENED, [f"#/sessions/{session_id}", "article", "Message number 2000"])
        expect(page.get_by_role("log").get_by_text("Message number 2000")).to_be_in_viewport()
        opened["list_1000_sessions_ms"].append(listed)
        opened["open_2000_messages_ms"].append(shown)
        page.goto("/#/build")
    figures = {name: round(median(times)) for name, times in opened.items()}
    place = ROOT / "docs" if os.environ.get("CONSOLE_SPEED") else tmp_path
    (place / "console-speed.json").write_text(json.dumps(figures, indent=2) + "\n")
    http.close()


def test_a_long_answer_is_drawn_as_it_comes(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Fast")
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    page.evaluate(
        """() => {
            window.grown = 0
            let before = 0
            new MutationObserver(() => {
                const length = document.querySelector('.message.assistant .markdown')?.textContent.length ?? 0
                if (length > before) window.grown += 1
                before = length
            }).observe(document.body, { childList: true, characterData: true, subtree: true })
        }"""
    )
    posted = http.say(session_id, script(tokens=4000, token_ms=1), wait=False)
    expect(page.locator(".message.assistant")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    # In steps, however few of them a busy machine has time for.
    assert page.evaluate("window.grown") >= 5
    turn = http.get(f"/sessions/{session_id}/turns/{posted['turn']['id']}")
    assert turn["usage"]["output_tokens"] >= 4000
    stored = http.get(f"/sessions/{session_id}/messages", role="assistant")["items"][0]["content"]
    assert " ".join(page.locator(".message.assistant .markdown").inner_text().split()) == " ".join(stored.split())
