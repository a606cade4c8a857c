"""What an answer says beside its text: how it ended, what was reasoned, its JSON, what is left out, and who asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.support.client import call, script
from tests.e2e.support.processes import AppHost
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_LEFT_OUT = "The model no longer reads this: the content filter refused it"
_FILTERED = {"status": 400, "code": "content_filter", "message": "The prompt was filtered."}
_HOSTILE = "<img src=x onerror='window.hit = 1'><script>window.hit = 2</script>"
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


def _send(page: Page, words: str) -> None:
    page.get_by_label("Message", exact=True).fill(words)
    page.keyboard.press("Enter")


def _answer(page: Page) -> Locator:
    return page.locator(".message.assistant").last


def _reasoning(page: Page) -> Locator:
    return _answer(page).locator("details.reasoning")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"content": "Half of it", "finish_reason": "length"}, "Cut at the output limit"),
        ({"content": "Half of it", "finish_reason": "content_filter"}, "Stopped by the content filter"),
        ({"refusal": "Half of it"}, "The model declined"),
        ({"content": "Half of it"}, None),
    ],
    ids=["length", "content-filter", "refusal", "stop"],
)
def test_an_answer_says_how_it_ended_live_and_from_its_history(
    parley: AppHost, http: Http, visit: Visit, told: dict[str, str], words: str | None
) -> None:
    session_id = http.session("Ended")
    http.say(session_id, script(content="Two.", tool_calls=[[call("calculate", expression="1+1")]]))
    page = visit(parley).open("sessions", session_id)
    expect(page.locator(".message.assistant")).to_have_count(2)
    _send(page, script(**told))
    for again in (False, True):
        if again:
            page.reload()
        answers = page.locator(".message.assistant")
        expect(answers).to_have_count(3)
        expect(answers.last).to_contain_text("Half of it")
        expect(answers.last).to_have_attribute("aria-busy", "false")
        if words is not None:
            expect(answers.last.get_by_text(words, exact=True)).to_be_visible()
        # The others are complete, or went on after their calls.
        expect(page.locator(".ending")).to_have_text([words] * (words is not None))


def test_a_stopped_answer_says_so_once_live_and_from_its_history(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Broken off")
    page = visit(parley).open("sessions", session_id)
    _send(page, script(tokens=2000, token_ms=20))
    expect(_answer(page).locator(".said")).to_have_text(re.compile(r"(\S+\s+){5,}"))
    page.get_by_role("button", name="Stop").click()
    expect(_answer(page).get_by_text("Cancelled", exact=True)).to_be_visible()
    page.reload()
    expect(_answer(page).get_by_text("Cancelled", exact=True)).to_be_visible()
    expect(page.get_by_text("Stopped.")).to_have_count(0)


def test_reasoning_is_open_while_nothing_is_answered_and_opens_by_keyboard_afterwards(
    parley: AppHost, http: Http, visit: Visit, tmp_path: Path
) -> None:
    session_id = http.session("Reasoned")
    thoughts, enough = "First the one, then the other. " * 200, tmp_path / "enough"
    visitor = visit(parley)
    page = visitor.open("sessions", session_id)
    slowly = {"token_ms": 100, "paced_until": str(enough)}
    _send(page, script(content="The other.", reasoning=thoughts + "So the other.", **slowly))
    expect(_reasoning(page)).to_have_attribute("open", "")
    expect(_reasoning(page)).to_contain_text("First the one")
    expect(_answer(page).locator(".said > .markdown")).to_have_text("")
    # Somebody who comes in the middle of it sees what was said so far.
    second = visitor.tab()
    second.goto(f"/#/sessions/{session_id}")
    expect(_reasoning(second)).to_have_attribute("open", "")
    expect(_reasoning(second)).to_contain_text("First the one")

    enough.touch()
    for tab in (page, second):
        expect(_answer(tab)).to_contain_text("The other.")
        expect(_reasoning(tab)).not_to_have_attribute("open", "")
        summary = _reasoning(tab).locator("summary")
        summary.focus()
        tab.keyboard.press("Enter")
        expect(_reasoning(tab)).to_contain_text("So the other.")
        _expect_the_stored_reasoning(tab, http, session_id)
        tab.keyboard.press("Enter")
        expect(_reasoning(tab)).not_to_have_attribute("open", "")

    page.reload()
    expect(_answer(page)).to_contain_text("The other.")
    expect(_reasoning(page)).not_to_have_attribute("open", "")
    _reasoning(page).get_by_text("Reasoning", exact=True).click()
    _expect_the_stored_reasoning(page, http, session_id)


def test_another_attempt_begins_with_reasoning_of_its_own(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Reasoned twice")
    page = visit(parley).open("sessions", session_id)
    thoughts = "One, two, three, four, five, six, seven, eight."
    _send(page, script(key=uuid4().hex, content="Eight.", reasoning=thoughts, fail=[{"cut_after": 6}]))
    expect(_answer(page)).to_contain_text("Eight.")
    expect(_answer(page)).to_have_attribute("aria-busy", "false")
    _reasoning(page).get_by_text("Reasoning", exact=True).click()
    expect(_reasoning(page).locator(".markdown")).to_have_text(thoughts)


def test_what_the_filter_refused_is_marked_live_and_from_its_history(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Filtered")
    page = visit(parley).open("sessions", session_id)
    _send(page, script(key=uuid4().hex, content="no", fail=[_FILTERED]))
    asked = page.locator(".message.user").first
    expect(asked.get_by_text(_LEFT_OUT, exact=True)).to_be_visible()
    expect(_answer(page)).to_contain_text("say it in other words")
    # The result of a tool: without it the model has an answer all the same.
    calls = [[call("calculate", expression="6*7")]]
    _send(page, script(key=uuid4().hex, content="Without it.", tool_calls=calls, fail=[{}, _FILTERED]))
    expect(_answer(page)).to_contain_text("Without it.")
    expect(_answer(page)).to_have_attribute("aria-busy", "false")
    for again in (False, True):
        if again:
            page.reload()
        expect(page.get_by_role("region", name="Tool call calculate").get_by_text(_LEFT_OUT)).to_be_visible()
        expect(page.get_by_text(_LEFT_OUT)).to_have_count(2)
        expect(asked.get_by_text(_LEFT_OUT, exact=True)).to_be_visible()


def test_who_asked_is_named_where_several_do(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Shared")
    http.put(f"/sessions/{session_id}/participants/ben", {"access": "write"})
    http.say(session_id, script(content="To olga."))
    olga, ben = visit(parley), visit(parley, user="ben")

    def names(page: Page) -> Locator:
        return page.locator(".message.user .who > span")

    first = olga.open("sessions", session_id)
    expect(names(first)).to_have_text(["You"])
    second = ben.open("sessions", session_id)
    expect(names(second)).to_have_text(["olga"])
    _send(second, script(content="To ben."))
    expect(_answer(first)).to_contain_text("To ben.")
    expect(names(first)).to_have_text(["olga (you)", "ben"])
    expect(names(second)).to_have_text(["olga", "ben (you)"])
    expect(first.get_by_role("article", name="ben said")).to_have_count(1)
    first.reload()
    expect(names(first)).to_have_text(["olga (you)", "ben"])


def test_an_answer_to_a_schema_is_shown_as_json_and_copied(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Cities", config={"output_schema": _SCHEMA})
    city = {"city": "Paris", "people": 9007199254740993}
    visitor = visit(parley)
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.open("sessions", session_id)
    _send(page, script(content=json.dumps(city, separators=(",", ":"))))
    written = '{\n  "city": "Paris",\n  "people": 9007199254740993\n}'
    for again in (False, True):
        if again:
            page.reload()
        expect(_answer(page).get_by_role("region", name="Answer as JSON")).to_have_js_property("textContent", written)
        _answer(page).get_by_role("button", name="Copy JSON").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == written


def test_an_answer_that_does_not_fit_its_schema_says_so_once(parley: AppHost, http: Http, visit: Visit) -> None:
    never = {"type": "object", "properties": {"city": {"type": "string", "pattern": "^$"}}, "required": ["city"]}
    session_id = http.session("Misfit", config={"output_schema": never})
    page = visit(parley).open("sessions", session_id)
    _send(page, script(content='{"city": "Paris"}'))
    for again in (False, True):
        if again:
            page.reload()
        expect(page.get_by_text("does not fit the output_schema")).to_have_count(1)
        expect(_answer(page).get_by_text("does not fit the output_schema")).to_be_visible()
        expect(_answer(page).get_by_role("button", name="Copy JSON")).to_have_count(0)


def test_reasoning_and_json_stay_text(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Hostile", config={"output_schema": _SCHEMA})
    content = json.dumps({"city": _HOSTILE, "people": 1})
    http.say(session_id, script(content=content, reasoning=f"{_HOSTILE} [run](javascript:window.hit=3)"))
    page = visit(parley).open("sessions", session_id)
    expect(_answer(page).get_by_role("region", name="Answer as JSON")).to_contain_text(_HOSTILE)
    _reasoning(page).get_by_text("Reasoning", exact=True).click()
    expect(_reasoning(page)).to_contain_text(_HOSTILE)
    assert page.get_by_role("log").locator("script, img, [onerror], a[href^='javascript']").count() == 0
    assert page.evaluate("window.hit") is None


@pytest.fixture(scope="module")
def scene(parley: AppHost) -> str:
    """A session with every sign that an answer may carry, in which two people write."""
    http, ben = Http(parley.base_url), Http(parley.base_url, "ben")
    session_id = http.session("All the signs", config={"output_schema": _SCHEMA})
    http.put(f"/sessions/{session_id}/participants/ben", {"access": "write"})
    http.say(session_id, script(key=uuid4().hex, content="no", fail=[_FILTERED]))
    http.say(session_id, script(refusal="I will not."))
    http.say(session_id, script(content="Half", finish_reason="length"))
    ben.say(session_id, script(content='{"city": "Rome", "people": 2}', reasoning="**Where**\n\nIn `Italy`."))
    http.close()
    ben.close()
    return session_id


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", None), ("dark", None), ("light", PHONE)], ids=["light", "dark", "phone"]
)
def test_axe_finds_nothing_in_what_an_answer_says(
    parley: AppHost, visit: Visit, scene: str, scheme: str, size: dict[str, int] | None
) -> None:
    page = visit(parley, scheme=scheme, size=size).open("sessions", scene)
    _reasoning(page).get_by_text("Reasoning", exact=True).click()
    expect(_reasoning(page)).to_contain_text("In Italy.")
    expect(page.get_by_text("The model declined")).not_to_have_count(0)
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _expect_the_stored_reasoning(page: Page, http: Http, session_id: str) -> None:
    [answer] = http.get(f"/sessions/{session_id}/messages", role="assistant")["items"]
    assert answer["reasoning"].strip()
    expect(_reasoning(page).locator(".markdown")).to_have_text(answer["reasoning"].strip())
