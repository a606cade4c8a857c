"""The example `examples/use-chat`: unmodified `useChat` in a real browser, with Parley behind one URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from devtools.setup.places import ROOT
from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.browsing import PATIENCE_MS, Http
from tests.web.support.example_page import IGNORED, USE_CHAT, built_page, served

pytestmark = pytest.mark.e2e

type Open = Callable[..., Page]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_page(USE_CHAT, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def address(example: Path, parley: AppHost) -> Iterator[str]:
    with served(example, parley.base_url) as url:
        yield url


@pytest.fixture
def pages(browser: Browser) -> Iterator[Open]:
    """Opens tabs of one person. files: a built page to be shown at a host's own address. At the end, what they logged
    beside failed requests fails the test."""
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    logged: list[str] = []

    def tab(url: str, files: Path | None = None, *, ready: bool = True) -> Page:
        page = context.new_page()
        if files is not None:
            page.route(lambda asked: not urlsplit(asked).path.startswith("/api/"), lambda route: _file(route, files))
        page.on("pageerror", lambda error: logged.append(f"uncaught: {error}"))
        page.on("console", lambda told: logged.append(told.text) if told.type == "error" else None)
        page.goto(url)
        if ready:
            expect(page.get_by_role("status")).to_have_text("ready")
        return page

    yield tab
    context.close()
    assert [line for line in logged if not IGNORED.search(line)] == []


@pytest.fixture
def http(parley: AppHost) -> Iterator[Http]:
    """The person of these pages: whoever names nobody on a laptop."""
    client = Http(parley.base_url, "dev;approver,admin")
    yield client
    client.close()


def _file(route: Route, files: Path) -> None:
    path = urlsplit(route.request.url).path.strip("/") or "index.html"
    route.fulfill(path=files / path)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send").click()


def answers(page: Page) -> Locator:
    return page.get_by_role("listitem", name="assistant")


def shown(page: Page) -> str:
    return "".join(answers(page).last.locator(".text").all_text_contents())


def at_rest(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("ready")


def chat_id(page: Page) -> str:
    return page.url.partition("chat=")[2]


def test_messages_tools_and_answers_that_are_given_again(pages: Open, address: str) -> None:
    page = pages(address)
    say(page, script(tool_calls=[[call("calculate", expression="17 * 23")]], content="It is 391."))
    tool = page.get_by_role("region", name="Tool call calculate")
    expect(tool).to_contain_text("output-available")
    expect(tool).to_contain_text("391")
    expect(answers(page).last).to_contain_text("It is 391.")
    at_rest(page)

    page.get_by_role("button", name="Again").click()
    expect(answers(page).last).to_contain_text("It is 391.")
    at_rest(page)
    expect(answers(page)).to_have_count(1)

    page.reload()
    expect(answers(page).last).to_contain_text("It is 391.")
    expect(page.get_by_role("region", name="Tool call calculate")).to_contain_text("output-available")
    expect(answers(page)).to_have_count(1)


def test_a_tool_of_the_page_is_answered_after_a_reload(pages: Open, address: str) -> None:
    page = pages(address)
    asks = {"name": "ask_user", "arguments": {"question": "Which city?"}}
    say(page, script(tool_calls=[[asks]], content="Oslo it is."))
    tool = page.get_by_role("region", name="Tool call ask_user")
    expect(tool.get_by_label("Which city?")).to_be_visible()
    at_rest(page)

    page.reload()
    tool.get_by_label("Which city?").fill("Oslo")
    tool.get_by_role("button", name="Answer").click()
    expect(tool).to_contain_text("output-available")
    expect(answers(page).last).to_contain_text("Oslo it is.")
    at_rest(page)
    say(page, script(content="And on."))
    expect(answers(page).last).to_contain_text("And on.")


@pytest.mark.parametrize(("button", "state"), [("Approve", "output-available"), ("Deny", "output-denied")])
def test_a_call_waits_until_its_reader_answers(pages: Open, address: str, sink: Sink, button: str, state: str) -> None:
    path = f"/use-chat-{state}"
    page = pages(address)
    say(page, script(tool_calls=[[post_call(sink.url(path))]], content="That was it."))
    tool = page.get_by_role("region", name="Tool call http_request")
    expect(tool).to_contain_text("approval-requested")
    at_rest(page)
    assert sink.at(path) == []

    page.reload()
    tool.get_by_role("button", name=button).click()
    expect(tool).to_contain_text(state)
    expect(answers(page).last).to_contain_text("That was it.")
    at_rest(page)
    assert len(sink.at(path)) == int(button == "Approve")


def test_two_tabs_see_what_one_of_them_decides(pages: Open, address: str, sink: Sink) -> None:
    first = pages(address)
    say(first, script(tool_calls=[[post_call(sink.url("/two-tabs"))]], content="Sent by both."))
    expect(first.get_by_role("button", name="Approve")).to_be_visible()
    second = pages(first.url)
    second.get_by_role("button", name="Approve").click()
    for page in (second, first):
        expect(answers(page).last).to_contain_text("Sent by both.")
        expect(page.get_by_role("region", name="Tool call http_request")).to_contain_text("output-available")
        expect(answers(page)).to_have_count(1)
        at_rest(page)
    assert len(sink.at("/two-tabs")) == 1


def test_a_page_sees_what_somebody_else_decided(pages: Open, address: str, sink: Sink, parley: AppHost) -> None:
    page = pages(address)
    say(page, script(tool_calls=[[post_call(sink.url("/somebody"))]], content="As they said."))
    expect(page.get_by_role("button", name="Deny")).to_be_visible()
    otto = Http(parley.base_url, "otto;approver")
    url = sink.url("/somebody")
    [approval] = [item for item in otto.get("/approvals", status="pending")["items"] if item["arguments"]["url"] == url]
    otto.post(f"/approvals/{approval['id']}/decision", {"decision": "reject", "comment": "not today"})
    expect(page.get_by_role("region", name="Tool call http_request")).to_contain_text("output-denied")
    expect(answers(page).last).to_contain_text("As they said.")
    assert sink.at("/somebody") == []
    otto.close()


def test_a_page_shows_what_a_subagent_asks_and_what_somebody_else_decided(
    pages: Open, address: str, sink: Sink, http: Http
) -> None:
    helper = http.agent("use_chat_helper", "Helper")
    session_id = http.session("Asks another agent", agent_id=http.agent("use_chat_boss", "Boss", agents=[helper]))
    page = pages(f"{address}/?chat={session_id}")
    posts = [[post_call(sink.url(f"/below/{number}"))] for number in (1, 2)]
    asks = [call("ask_use_chat_helper", input=script(tool_calls=posts, content="Sent."))]
    say(page, script(tool_calls=[asks], content="They have sent it."))
    expect(page.get_by_text("use_chat_helper asks, through use_chat_boss")).to_be_visible()
    tools = page.get_by_role("region", name="Tool call http_request")
    tools.get_by_role("button", name="Approve").click()
    expect(tools.first).to_contain_text("output-available")
    expect(tools.last).to_contain_text("approval-requested")
    at_rest(page)
    url = sink.url("/below/2")
    [approval] = [item for item in http.get("/approvals", status="pending")["items"] if item["arguments"]["url"] == url]
    http.post(f"/approvals/{approval['id']}/decision", {"decision": "reject"})
    expect(tools.last).to_contain_text("output-denied")
    expect(answers(page).last).to_contain_text("They have sent it.")
    assert [len(sink.at(f"/below/{number}")) for number in (1, 2)] == [1, 0]


def test_a_page_reloaded_in_mid_stream_shows_all_of_it(pages: Open, address: str, http: Http) -> None:
    page = pages(address)
    say(page, script(tokens=80, token_ms=40))
    expect(answers(page).last.locator(".text")).to_be_visible()
    page.reload()
    expect(answers(page).last.locator(".text")).to_be_visible()
    at_rest(page)
    [_, stored] = http.get(f"/ai-sdk/chat/{chat_id(page)}/messages")["messages"]
    assert shown(page) == next(part["text"] for part in stored["parts"] if part["type"] == "text")
    assert len(shown(page).split()) == 80


def test_stop_ends_the_turn_and_the_next_message_is_answered(pages: Open, address: str) -> None:
    page = pages(address)
    say(page, script(tokens=4_000, token_ms=20))
    expect(answers(page).last.locator(".text")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    at_rest(page)
    say(page, script(content="Next."))
    expect(answers(page).last).to_contain_text("Next.")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_what_the_pages_show_is_an_app(pages: Open, tmp_path: Path, parley: AppHost, sink: Sink, http: Http) -> None:
    """The walk-through of docs/front-ends.md in a fresh folder."""
    place = built_page(USE_CHAT, tmp_path, main=_snippet("docs/front-ends.md"))
    page = pages(parley.base_url, files=place / "dist", ready=False)
    said = [script(tool_calls=[[post_call(sink.url("/walked"))]], content="Walked through.")]
    page.on("dialog", lambda dialog: dialog.accept(said.pop()))
    page.get_by_role("button", name="Send").click()
    approve = page.get_by_role("button", name="Approve")
    expect(approve).to_be_visible()
    page.reload()
    approve.click()
    expect(page.get_by_text("Walked through.", exact=True)).to_be_visible()
    assert len(sink.at("/walked")) == 1
    assert len(http.get("/ai-sdk/chat/my-first-chat/messages")["messages"]) == 2


def _snippet(page: str) -> str:
    [found] = re.findall(r"^```tsx\n(.*?)^```", Path(ROOT, page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_assistant_ui_runs_on_the_same_url(pages: Open, tmp_path: Path, parley: AppHost, sink: Sink) -> None:
    place = built_page(Path(__file__).parent / "assistant_ui", tmp_path)
    page = pages(parley.base_url, files=place / "dist", ready=False)
    for text, answer in (
        (script(content="Over assistant-ui."), "Over assistant-ui."),
        (script(tool_calls=[[post_call(sink.url("/assistant-ui"))]], content="And approved."), "And approved."),
    ):
        page.get_by_label("Message", exact=True).fill(text)
        page.get_by_role("button", name="Send").click()
        if "tool_calls" in text:
            page.get_by_role("button", name="Approve").click()
        expect(page.get_by_text(answer, exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Tool call http_request")).to_contain_text("has a result")
    assert len(sink.at("/assistant-ui")) == 1


def test_a_refusal_is_shown_in_words(pages: Open, address: str, http: Http) -> None:
    page = pages(address)
    say(page, "hello")
    at_rest(page)
    [session] = [item for item in http.get("/sessions")["items"] if item["id"] == chat_id(page)]
    http.post(f"/sessions/{session['id']}/end")
    say(page, "once more")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("ended", re.IGNORECASE))


def test_a_page_lives_through_a_killed_host(pages: Open, example: Path, own_host: AppHost, tmp_path: Path) -> None:
    """Without the proxy, which keeps a connection open although the host's is cut."""
    page = pages(own_host.base_url, files=example / "dist")
    enough = tmp_path / "enough"
    say(page, script(tokens=1_000, token_ms=100, paced_until=str(enough)))
    expect(answers(page).last.locator(".text")).to_be_visible()
    own_host.kill()
    expect(page.get_by_role("status")).to_have_text("reconnecting")
    enough.touch()
    own_host.start()
    expect(page.get_by_role("status")).to_have_text("ready")
    expect(answers(page)).to_have_count(1)
    client = Http(own_host.base_url, "dev;approver,admin")
    stored = client.get(f"/ai-sdk/chat/{chat_id(page)}/messages")["messages"]
    client.close()
    text = next(part["text"] for part in stored[-1]["parts"] if part["type"] == "text")
    # Where the turn has ended before the page looked again, the history brings its answer.
    expect(answers(page).last.locator(".text")).to_have_text(text)
    assert shown(page) == text
