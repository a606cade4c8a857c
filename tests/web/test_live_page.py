"""A page of Vite's development server follows a session of a host on another port: the script of `docs/live.md`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from devtools.setup.places import ROOT
from tests.e2e.support.client import script
from tests.e2e.support.live_script import printed
from tests.e2e.support.processes import AppHost
from tests.web.support.browsing import Http
from tests.web.support.example_page import served

pytestmark = pytest.mark.e2e

_PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<ol></ol>
<script type="module">
import { follow } from './follow.js'
const { api, session } = Object.fromEntries(new URLSearchParams(location.search))
const list = document.querySelector('ol')
await follow(api, session, (event) => {
  list.append(Object.assign(document.createElement('li'), { textContent: JSON.stringify(event) }))
})
document.title = 'joined'
</script>
"""


def test_a_page_of_another_port_follows_a_session(browser: Browser, parley: AppHost, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(_PAGE, "utf-8")
    (tmp_path / "follow.js").write_text(printed(), "utf-8")
    (tmp_path / "vite.config.js").write_text("export default { cacheDir: '.vite' }", "utf-8")
    (tmp_path / "node_modules").symlink_to(Path(ROOT, "web", "node_modules"))
    http = Http(parley.base_url, "dev;approver,admin")  # whom the page is without a header of its own
    session_id = http.session("Followed from afar")
    context = browser.new_context()
    problems: list[str] = []
    try:
        with served(tmp_path, parley.base_url, how="dev") as url:
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(f"{url.replace('127.0.0.1', 'localhost')}/?api={parley.base_url}/api/v1&session={session_id}")
            expect(page).to_have_title("joined")
            http.say(session_id, script(tokens=20, token_ms=5), wait=False)
            expect(page.get_by_text("stream.ended")).to_have_count(1)
            heard = [json.loads(line) for line in page.get_by_role("listitem").all_text_contents()]
    finally:
        context.close()
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert heard == http.get(f"/sessions/{session_id}/events", limit=200)["items"]
    http.close()
    assert problems == []
