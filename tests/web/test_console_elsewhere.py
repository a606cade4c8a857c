"""The console from another origin than its API, as Static Web Apps serve it: CORS, its policy, and signing in."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from devtools import static_site
from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost, Sink, free_port
from tests.e2e.support.stack import own_environment, own_stores
from tests.web.support import static_server
from tests.web.support.browsing import Visitor
from tests.web.support.origins import app_that_allows

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("built")]

type Visit = Callable[..., Visitor]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A site, and the host that it calls."""

    base_url: str
    api: str
    publish: Callable[[str], None]
    """Writes the site for a way to sign in (`dev`, `easyauth`), and serves it."""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[Elsewhere]:
    folder, port = tmp_path_factory.mktemp("elsewhere"), free_port()
    site = f"http://localhost:{port}"
    with own_stores() as stores, static_server.serving(port) as server:
        host = AppHost(folder, own_environment(stores, model_url, sink), app=app_that_allows(site, folder / "app"))
        api = host.base_url

        def publish(auth: str) -> None:
            if not (folder / auth).exists():
                static_site.write(folder / auth, api=api, signalr=api, auth=auth)
            static_server.load(server, folder / auth)

        try:
            host.start()
            yield Elsewhere(site, api, publish)
        finally:
            host.stop()


def test_a_turn_is_watched_live_across_origins(elsewhere: Elsewhere, visit: Visit) -> None:
    elsewhere.publish("dev")
    visitor = visit(elsewhere, user="dana;approver,admin")
    requests: list[Request] = []
    visitor.page.on("request", lambda request: requests.append(request))
    page = visitor.open()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.get_by_role("button", name="Start one").click()
    expect(page.get_by_text("the only agent there is")).to_be_visible()
    page.get_by_role("button", name="Create").click()
    page.get_by_label("Attach a file").set_input_files(
        [{"name": "far.txt", "mimeType": "text/plain", "buffer": b"from afar"}]
    )
    expect(page.get_by_role("list", name="Files to send").locator("li.ready")).to_have_count(1)
    page.get_by_label("Message", exact=True).fill(script(content="Heard over there."))
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant")).to_contain_text("Heard over there.")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("far.txt")).click()
    assert download.value.path().read_bytes() == b"from afar"
    page.get_by_role("link", name="Insight").click()
    expect(page.get_by_text("Waiting approvals")).to_be_visible()

    site = {request.url.removeprefix(elsewhere.base_url) for request in requests}
    asked = {path for path in site if path.startswith("/") and not path.startswith("/assets/")}
    assert asked <= {"/", "/#/"}, "of the site it asks for nothing but its own parts"
    assert any(request.url.startswith(f"{elsewhere.api}/api/v1/sessions") for request in requests)


def test_the_platforms_sign_in_is_gone_to_and_its_token_sent_with_every_request(
    elsewhere: Elsewhere, visit: Visit
) -> None:
    """The platform's half is not here: the host takes whoever calls. What the page does is."""
    elsewhere.publish("easyauth")
    visitor = visit(elsewhere)
    calls: list[Request] = []
    visitor.page.on("request", lambda request: calls.append(request) if "/api/v1/" in request.url else None)
    page = visitor.page
    page.goto(f"{elsewhere.base_url}/#/insight")
    button = page.get_by_role("button", name="Sign in")
    expect(button).to_be_visible()
    assert calls == [], "nobody is asked before somebody is known"
    page.route("**/.auth/**", lambda route: route.fulfill(status=204))  # the host has no such page
    state = _begin_to_sign_in(page, elsewhere)
    _come_back(page, elsewhere, "a.b.c", state)
    expect(page.get_by_role("heading", name="Insight")).to_be_visible()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    assert page.url == f"{elsewhere.base_url}/#/insight", "back where it began, and the token out of the address"
    sent = [call for call in calls if call.method != "OPTIONS"]
    assert sent
    assert {call.headers.get("x-zumo-auth") for call in sent} == {"a.b.c"}
    assert not any("x-dev-user" in call.headers for call in sent)

    page.get_by_role("button", name="Sign out").click()
    expect(button).to_be_visible()
    # One that is over already is as good as none.
    _come_back(page, elsewhere, "e30.eyJleHAiOjF9.x", _begin_to_sign_in(page, elsewhere))
    expect(button).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("navigation", name="Rooms")).to_have_count(0)


def test_a_token_is_taken_once_and_only_by_the_tab_that_asked_for_it(elsewhere: Elsewhere, visit: Visit) -> None:
    """Else a link with somebody's own token would make whoever follows it act as them."""
    elsewhere.publish("easyauth")
    visitor = visit(elsewhere)
    page, other = visitor.page, visitor.tab()
    button = page.get_by_role("button", name="Sign in")
    for tab in (page, other):
        tab.goto(elsewhere.base_url)
        tab.route("**/.auth/**", lambda route: route.fulfill(status=204))

    # Nobody has asked.
    for state in (None, "", "x", "null"):
        _come_back(page, elsewhere, "evil.b.c", state)
        _is_refused(page, elsewhere)
        expect(button).to_be_visible()

    # Another tab has asked, or this one with another state; the state is used up by the first answer, whatever it is.
    state = _begin_to_sign_in(page, elsewhere)
    _come_back(other, elsewhere, "evil.b.c", state)
    _is_refused(other, elsewhere)
    _come_back(page, elsewhere, "evil.b.c", state[::-1])
    _is_refused(page, elsewhere)
    _come_back(page, elsewhere, "evil.b.c", state)
    _is_refused(page, elsewhere)
    for brought in ("", "%", "%7B", "null"):
        state = _begin_to_sign_in(page, elsewhere)
        page.goto(f"{elsewhere.base_url}/?state={state}#token={brought}")
        _is_refused(page, elsewhere)

    # In a page that is open already, only the fragment changes.
    page.evaluate("location.hash = '#token=evil'")
    _is_refused(page, elsewhere)

    # Whoever is signed in stays who they are, and is told.
    state = _begin_to_sign_in(page, elsewhere)
    _come_back(page, elsewhere, "a.b.c", state)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    _come_back(page, elsewhere, "evil.b.c", state)
    _is_refused(page, elsewhere)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('parley.token')") == "a.b.c"


def _begin_to_sign_in(page: Page, elsewhere: Elsewhere) -> str:
    """Click the button; the state in the address to which the platform shall return."""
    with page.expect_request(f"{elsewhere.api}/.auth/login/aad*") as asked:
        page.get_by_role("button", name="Sign in").click()
    query = parse_qs(urlsplit(asked.value.url).query, strict_parsing=True)
    assert query.keys() == {"session_mode", "post_login_redirect_url"}
    assert query["session_mode"] == ["token"]
    origin, _, state = query["post_login_redirect_url"][0].partition("?state=")
    assert origin == elsewhere.base_url, "without its query, exactly what the platform is told to allow"
    assert re.fullmatch("[0-9a-f]{64}", state)
    return state


def _come_back(page: Page, elsewhere: Elsewhere, token: str, state: str | None) -> None:
    """As the platform sends a caller back: to a page that is loaded anew."""
    brought = quote(json.dumps({"authenticationToken": token, "user": {"userId": "sid:1"}}))
    # The site's own address has another query each time, or the browser would not load the page again.
    query = f"{next(_loads)}" if state is None else f"{next(_loads)}&state={state}"
    page.goto(f"{elsewhere.base_url}/?{query}#token={brought}")


_loads = itertools.count()


def _is_refused(page: Page, elsewhere: Elsewhere) -> None:
    expect(page.get_by_text("A sign-in that was not started in this tab was refused.")).to_be_visible()
    # Neither token nor state stays in the address. Waited for: the text may still stand there from the time before.
    expect(page).to_have_url(f"{elsewhere.base_url}/")
    assert "evil" not in str(page.evaluate("JSON.stringify(sessionStorage)"))
