"""A real browser at the console, as a test handles it: Chromium, which talks to nobody but the host under test.

Invariant: a page that logged anything a test did not expect (an error, a warning, a refused script) fails that test.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from devhost.servers.node import node_home
from devtools.browser.chromium import Chromium

PATIENCE_MS = 60_000
"""For a busy machine; what is there is found at once."""
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
OWNER = "olga;approver,admin"

_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-client-side-phishing-detection",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,CertificateTransparencyComponentUpdater",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--metrics-recording-only",
    "--proxy-server=direct://",
)


@contextmanager
def running_browser(chromium: Chromium) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    # Playwright's own Node.js needs a library (libatomic) that a small system lacks.
    os.environ["PLAYWRIGHT_NODEJS_PATH"] = str(node_home() / "bin" / "node")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.path,
            args=list(_QUIET),
            env={**os.environ, **chromium.environment},
            headless=True,
        )
        yield browser
        browser.close()


class Visitor:
    """One person with a window of their own."""

    def __init__(
        self,
        browser: Browser,
        base_url: str,
        *,
        user: str = OWNER,
        size: dict[str, int] | None = None,
        scheme: Literal["light", "dark"] = "light",
        has_touch: bool = False,
        is_mobile: bool = False,
    ) -> None:
        # As a person types it. SignalR is then another origin, as it is in Azure.
        self.base_url = base_url = base_url.replace("127.0.0.1", "localhost")
        self.user = user
        self.context: BrowserContext = browser.new_context(
            viewport=size or DESKTOP,  # type: ignore[arg-type]
            base_url=base_url,
            reduced_motion="reduce",
            color_scheme=scheme,
            locale="en-GB",
            has_touch=has_touch,
            is_mobile=is_mobile,
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(f"localStorage.setItem('parley.user', {user!r})")
        self.logged: list[str] = []
        self.expected: re.Pattern[str] | None = None
        """What may be logged, whenever it comes."""
        self.page = self.tab()

    def tab(self) -> Page:
        """Another tab of the same person."""
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.logged.append(f"uncaught: {error}"))
        return page

    def open(self, *path: str) -> Page:
        self.page.goto("/#/" + "/".join(path))
        expect(self.page.locator("main")).to_be_visible()
        return self.page

    def _heard(self, message: ConsoleMessage) -> None:
        line = f"{message.type}: {message.text} {message.location.get('url', '')}"
        if message.type in {"error", "warning"} and not (self.expected and self.expected.search(line)):
            self.logged.append(line)


class Http:
    """The same person's API calls, for what a test only prepares."""

    def __init__(self, base_url: str, user: str = OWNER) -> None:
        self._client = httpx.Client(
            base_url=f"{base_url}/api/v1", headers={"x-dev-user": user}, trust_env=False, timeout=90
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._client.get(path, params=query).raise_for_status().json()

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._client.post(path, json=body, headers=headers).raise_for_status().json()

    def put(self, path: str, body: Any = None) -> Any:
        return self._client.put(path, json=body).raise_for_status().json()

    def patch(self, path: str, body: Any) -> Any:
        return self._client.patch(path, json=body).raise_for_status().json()

    def delete(self, path: str) -> None:
        self.do("DELETE", path)

    def do(self, method: str, path: str) -> None:
        """What is answered without a body."""
        self._client.request(method, path).raise_for_status()

    def session(self, name: str, **more: Any) -> str:
        return str(self.post("/sessions", {"name": name, **more})["id"])

    def agent(self, agent_id: str, name: str, **more: Any) -> str:
        """Make an agent, or its next version; its id."""
        return str(self.put(f"/agents/{agent_id}", {"name": name, "instructions": "Be brief.", **more})["id"])

    def say(self, session_id: str, content: str, *, wait: bool = True) -> Any:
        """Post a message; by default wait until its turn has ended."""
        answer = self._client.post(
            f"/sessions/{session_id}/messages",
            json={"content": content},
            headers={"prefer": "wait=30"} if wait else {},
        )
        assert answer.status_code in {200, 202}, answer.text
        return answer.json()

    def until_over(self, session_id: str) -> None:
        """Wait until no turn of the session is open."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while self.get(f"/sessions/{session_id}/turns")["items"][0]["ended_at"] is None:
            assert time.monotonic() < deadline, "the turn did not end"
            time.sleep(0.05)

    def close(self) -> None:
        self._client.close()
