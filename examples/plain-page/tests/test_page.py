"""The page in a real browser, from another origin than the app: as somebody meets it who serves the folder."""

from __future__ import annotations

import asyncio
import mimetypes
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from devtools.browser.chromium import NoChromium, install
from tests.e2e.support.client import post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.e2e.support.stack import model_url, own_environment, own_stores, sink
from tests.web.support.browsing import PATIENCE_MS, running_browser
from tests.web.support.origins import app_that_allows

__all__ = ["model_url", "sink"]
pytestmark = pytest.mark.e2e

FOLDER = Path(__file__).parents[1]
NAMED = "http://localhost:7071"


class Site(ThreadingHTTPServer):
    """Serves the folder, with another address of the service in the page."""

    daemon_threads = True
    api = NAMED

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_address[1]}"


class _Files(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        name = self.path.lstrip("/") or "index.html"
        if name not in {"index.html", "page.js", "page.css"}:
            self.send_error(404)
            return
        content = (FOLDER / name).read_text("utf-8").replace(NAMED, self.server.api).encode()
        self.send_response(200)
        self.send_header("content-type", mimetypes.guess_type(name)[0] or "text/plain")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """A host that lets the site's pages in."""
    folder = tmp_path_factory.mktemp("plain")
    with own_stores() as stores:
        app = app_that_allows(site.url, folder / "app")
        running = AppHost(folder, own_environment(stores, model_url, sink), app=app)
        site.api = running.base_url
        try:
            running.start()
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        chromium = asyncio.run(install())
    except NoChromium as reason:
        pytest.fail(str(reason), pytrace=False)
    with running_browser(chromium) as running:
        yield running


@pytest.fixture
def logged() -> list[str]:
    """What the page logged that nobody expected."""
    return []


@pytest.fixture
def page(browser: Browser, site: Site, host: AppHost, logged: list[str]) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            logged.append(message.text)

    opened.on("console", heard)
    opened.on("pageerror", lambda error: logged.append(str(error)))
    opened.goto(site.url)
    yield opened
    context.close()


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_an_answer_streams_and_a_reload_shows_it_again(page: Page, logged: list[str]) -> None:
    say(page, script(tokens=40, token_ms=20))
    expect(page.get_by_role("status")).to_have_text("completed")
    answer = page.locator("#messages .assistant")
    text = answer.inner_text()
    assert len(text.split()) > 20
    say(page, script(content="<b>Not</b> bold"))
    expect(answer.last).to_have_text("<b>Not</b> bold")
    assert page.locator("#messages b").count() == 0

    page.reload()
    expect(page.get_by_role("status")).to_have_text("completed")
    expect(answer).to_have_count(2)
    assert answer.first.inner_text() == text
    expect(page.locator("#messages .user")).to_have_count(2)
    assert logged == []


def test_a_call_runs_once_somebody_lets_it(page: Page, sink: Sink, logged: list[str]) -> None:
    say(page, script(tool_calls=[[post_call(sink.url("/from-the-page"), '{"n": 1}')]], content="Sent."))
    card = page.locator("#messages .call")
    expect(card).to_contain_text(sink.url("/from-the-page"))
    assert sink.at("/from-the-page") == []
    card.get_by_role("button", name="Approve").click()
    expect(card).to_have_text("http_request: approved")
    expect(page.get_by_role("status")).to_have_text("completed")

    assert [request.body for request in sink.at("/from-the-page")] == [b'{"n": 1}']
    expect(page.locator("#messages .assistant").last).to_have_text("Sent.")
    assert logged == []


def test_a_killed_host_costs_the_page_nothing(page: Page, host: AppHost) -> None:
    say(page, script(tokens=100, token_ms=30))
    answer = page.locator("#messages .assistant")
    expect(answer).to_contain_text(" ")
    host.kill()
    host.start()
    expect(page.get_by_role("status")).to_have_text("completed", timeout=60_000)

    shown = answer.inner_text()
    session_id = page.url.partition("#")[2]
    stored = page.evaluate(
        "url => fetch(url).then((answer) => answer.json())",
        f"{host.base_url}/api/v1/sessions/{session_id}/messages?role=assistant",
    )
    assert shown == stored["items"][0]["content"]


def test_a_refusal_is_shown(page: Page) -> None:
    say(page, script(tokens=200, token_ms=30))
    expect(page.get_by_role("status")).to_have_text("thinking")
    say(page, "Another one, too early")
    expect(page.get_by_role("status")).to_contain_text("CONFLICT")
