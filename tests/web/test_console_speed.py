"""Long things stay light: a long history is never whole in the document, a long answer never waits for the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from playwright.sync_api import expect

from tests.e2e.client import script
from tests.e2e.processes import AppHost
from tests.web.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_MANY = """
    INSERT INTO messages (id, session_id, number, turn_number, step, ordinal, role, content, status, tokens, created_at)
    SELECT to_char(n, 'FM00000000') || '-many-' || %(session)s, %(session)s, n, n, 0, 0,
           CASE n %% 2 WHEN 1 THEN 'user' ELSE 'assistant' END,
           'Message number ' || n || repeat(' and some more words of it', n %% 7), 'completed', 5, %(now)s
    FROM generate_series(1, 2000) n
"""


def test_two_thousand_messages_scroll_with_few_of_them_in_the_document(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Long")
    with psycopg.connect(parley.environment["POSTGRES_URL"]) as database:
        database.execute(_MANY, {"session": session_id, "now": datetime.now(UTC)})
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_text("Message number 2000")).to_be_in_viewport()
    walked = page.evaluate(
        """async () => {
            const box = document.querySelector('[data-scroller]')
            const frame = () => new Promise(requestAnimationFrame)
            let most = 0, frames = 0
            const first = () => document.querySelector('article')?.innerText ?? ''
            while (!/Message number 1\\b/.test(first()) && frames < 2000) {
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
    page.get_by_role("button", name="Latest").click()
    expect(page.get_by_text("Message number 2000")).to_be_in_viewport()


def test_a_long_answer_is_drawn_as_it_comes(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Fast")
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    # Counts frames from the first word to the last, and in how many of them the text had grown.
    page.evaluate(
        """() => {
            window.seen = { frames: 0, grown: 0, ended: false }
            let before = 0
            const look = () => {
                const answer = document.querySelector('.message.assistant')
                const length = answer?.querySelector('.markdown')?.textContent.length ?? 0
                if (length > 0) {
                    window.seen.frames += 1
                    if (length > before) window.seen.grown += 1
                    before = length
                    if (answer.getAttribute('aria-busy') === 'false') { window.seen.ended = true; return }
                }
                requestAnimationFrame(look)
            }
            requestAnimationFrame(look)
        }"""
    )
    posted = http.say(session_id, script(tokens=4000, token_ms=1), wait=False)
    expect(page.locator(".message.assistant")).to_have_attribute("aria-busy", "false", timeout=60_000)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    seen = page.evaluate("window.seen")
    events = http.get(f"/sessions/{session_id}/events", after=0, limit=200)["items"]
    deltas = [event for event in events if event["data"].get("frame", {}).get("type") == "content_delta"]
    batches = len({event["at"] for event in deltas})
    # Nearly every batch that was sent apart was drawn apart, and between two of them the page was free to draw.
    assert seen["grown"] >= batches / 2
    assert seen["frames"] >= seen["grown"] * 1.5
    turn = http.get(f"/sessions/{session_id}/turns/{posted['turn']['id']}")
    assert turn["usage"]["output_tokens"] >= 4000
    stored = http.get(f"/sessions/{session_id}/messages", role="assistant")["items"][0]["content"]
    assert " ".join(page.locator(".message.assistant .markdown").inner_text().split()) == " ".join(stored.split())
