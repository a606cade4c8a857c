"""An agent that a tool call asked, folded under the call; its approval is reached from there."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_an_agent_that_was_asked_is_shown_under_its_call_and_its_approval_reached_from_there(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    http.agent("web-helper", "Helper")
    http.agent("web-boss", "Boss", agents=["web-helper"])
    session_id = http.session("A team", agent_id="web-boss")
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    task = script(content="Sent by the helper.", tool_calls=[[post_call(sink.url("/web-helper"))]])
    http.say(session_id, script(content="All done.", tool_calls=[[call("ask_web_helper", input=task)]]), wait=False)
    helper = page.get_by_role("region", name="Tool call ask_web_helper").locator("details.subagent")
    expect(helper).to_contain_text("waits for approval")
    expect(helper).to_contain_text("Asks to run http_request")
    assert barriers(page) == []

    helper.get_by_role("link", name="Review").click()
    expect(page.get_by_text("web-boss → web-helper")).to_be_visible()
    page.get_by_role("button", name="Approve", exact=True).click()
    http.until_over(session_id)
    page.go_back()

    expect(page.get_by_role("log").get_by_text("All done.", exact=True)).to_be_visible()
    expect(helper).to_contain_text("completed")
    helper.locator("summary").click()
    helper.get_by_role("link", name="Its session").click()
    expect(page.get_by_role("log").get_by_text("Sent by the helper.", exact=True)).to_be_visible()


def test_an_agent_in_the_background_is_seen_cancelled_and_its_result_is_nobodys_words(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    http.agent("web-later", "Later")
    http.agent("web-lead", "Lead", agents=["web-later"], background_agents=["web-later"])
    session_id = http.session("A team that goes on", agent_id="web-lead")
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    task = script(content="never", tool_calls=[[post_call(sink.url("/web-later"))]])
    begins = [[call("ask_web_later", input=task)]]
    http.say(session_id, script(content="It works on it.", tool_calls=begins), wait=False)
    log = page.get_by_role("log")
    expect(log.get_by_text("It works on it.", exact=True)).to_be_visible()
    later = page.get_by_role("region", name="Tool call ask_web_later").locator("details.subagent")
    expect(later).to_contain_text("waits for approval")
    expect(page.get_by_text("Waiting for an approval")).to_have_count(0)

    later.get_by_role("button", name="Cancel it").click()

    result = log.get_by_role("article", name="Agent web-later said")
    expect(result).to_contain_text("in the background")
    expect(result.get_by_role("region", name="Result of web-later")).to_contain_text("was cancelled")
    expect(result.get_by_role("button", name="Edit")).to_have_count(0)
    expect(later).to_contain_text("cancelled")
    expect(later.get_by_role("button", name="Cancel it")).to_have_count(0)
    assert barriers(page) == []
    log.get_by_role("link", name="Timeline").first.click()
    # In its row of the trace: the message that one leaves, and its preview in the list, say it too.
    expect(page.get_by_role("treeitem", name=re.compile("in the background"))).to_be_visible()
