"""Policies at work in the console: several people decide, once for a session, or anybody but who asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
from tests.web.support.browsing import PHONE, Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


@pytest.fixture
def under(http: Http, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Opens a session whose agent asks under this policy before it sends anything; its id."""

    def session(*, tools: list[str] | None = None, **policy: Any) -> str:
        name = f"web-{request.node.name[:50]}"
        agent_id = http.agent(name, "Careful", tools=tools, policies={"http_request": policy})
        return http.session("Under a policy", agent_id=agent_id)

    return session


def test_two_approve_the_same_changed_arguments_while_the_requester_watches(
    parley: AppHost, http: Http, visit: Visit, sink: Sink, under: Callable[..., str]
) -> None:
    session_id = under(quorum=2)
    requester = visit(parley).open("sessions", session_id)
    expect(requester.get_by_text("live", exact=True)).to_be_visible()
    url = sink.url("/quorum")
    http.say(session_id, script(content="Sent.", tool_calls=[[post_call(url, '{"amount": 100}')]]))
    call = requester.get_by_role("region", name="Tool call http_request")
    expect(call).to_contain_text("Waits for 2 people (any approver)")
    expect(call).to_contain_text("0 of 2 have approved")
    [approval] = http.get("/approvals", session_id=session_id)["items"]

    ana = visit(parley, user="ana;approver").open("approvals", approval["id"])
    ben = visit(parley, user="ben;approver", size=PHONE).open("approvals", approval["id"])
    expect(ben.get_by_role("heading", name="0 of 2 approvals")).to_be_visible()
    ana.get_by_role("button", name="Change the arguments").click()
    changed = {"method": "POST", "url": url, "body": '{"amount": 1}'}
    ana.get_by_label("Arguments as JSON").fill(orjson.dumps(changed).decode())
    ana.get_by_role("button", name="Approve with changes").click()
    expect(ana.get_by_role("heading", name="1 of 2 approvals")).to_be_visible()
    expect(ana.get_by_text("You voted approve.")).to_be_visible()
    expect(call).to_contain_text("1 of 2 have approved")
    assert sink.at("/quorum") == []

    votes = ben.get_by_role("region", name="Votes")
    expect(votes).to_contain_text("ana voted approve")
    diff = votes.get_by_role("region", name="What is changed")
    expect(diff.locator(".removed")).to_contain_text("100")
    expect(diff.locator(".added")).to_contain_text("1")
    # One below the other, and nothing of them off the phone's edge.
    before, after = (diff.locator(kind).bounding_box() for kind in (".removed", ".added"))
    assert before is not None
    assert after is not None
    assert before["y"] < after["y"]
    assert after["x"] + after["width"] < PHONE["width"]
    votes.get_by_role("button", name="Use ana’s arguments").click()
    ben.get_by_role("button", name="Approve with changes").click()
    expect(ben.get_by_role("heading", name="2 of 2 approvals")).to_be_visible()
    expect(ana.locator(".outcome")).to_contain_text("approved by ben")
    expect(call).to_contain_text("approved by ben")
    expect(requester.get_by_role("log").get_by_text("Sent.", exact=True)).to_be_visible()
    assert [request.json() for request in sink.at("/quorum")] == [{"amount": 1}]


def test_an_owner_without_the_role_sees_whom_the_turn_waits_for_and_who_decided_after_a_reload(
    parley: AppHost, visit: Visit, sink: Sink
) -> None:
    http = Http(parley.base_url, "udo;user")
    session_id = http.session("For somebody else to decide")
    http.say(session_id, script(content="Sent.", tool_calls=[[post_call(sink.url("/owner"))]]))
    page = visit(parley, user="udo;user").open("sessions", session_id)
    for _ in range(2):
        waiting = page.get_by_role("region", name="Tool call http_request")
        expect(waiting).to_contain_text("waits for approval")
        expect(waiting).to_contain_text(re.compile(r"Waits for any approver until .+ left\)"))
        page.reload()
    expect(waiting.get_by_role("button", name="Approve")).to_have_count(0)
    waiting.get_by_role("link", name="Review").click()
    expect(page.get_by_text("You may look at this, but an approver decides.")).to_be_visible()
    page.get_by_role("link", name="Approvals", exact=True).click()
    own = page.get_by_role("region", name="Your turns")
    expect(own).to_contain_text("Waits for any approver")
    expect(own).to_contain_text("For somebody else to decide")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)

    ana = Http(parley.base_url, "ana;approver")
    [approval] = ana.get("/approvals", session_id=session_id)["items"]
    ana.post(f"/approvals/{approval['id']}/decision", {"decision": "approve", "comment": "go"})
    http.until_over(session_id)
    page.goto(f"/#/sessions/{session_id}")
    for _ in range(2):
        decided = page.get_by_role("region", name="Tool call http_request")
        expect(decided).to_contain_text("approved by ana")
        expect(decided).to_contain_text("go")
        page.reload()
    page.get_by_role("link", name="Timeline").last.click()
    expect(page.get_by_role("treeitem", name="waited for a person")).to_contain_text("approved by ana")
    for client in (http, ana):
        client.close()


def test_who_is_not_in_the_session_decides_by_keyboard_with_the_question_and_the_reason_in_view(
    parley: AppHost, visit: Visit, sink: Sink
) -> None:
    http = Http(parley.base_url, "uma;user")
    session_id = http.session("The March invoice")
    steps = [[call("fetch_url", url=sink.url("/invoice"))], [post_call(sink.url("/by-key"), '{"amount": 2340}')]]
    http.say(session_id, script(content="Booked.", tool_calls=steps) + "\nBook the March invoice.")
    page = visit(parley, user="kai;approver").open("approvals")
    card = page.get_by_role("article").filter(has_text=sink.url("/by-key")).filter(has_text="Book the March invoice.")
    context = card.get_by_role("group", name="What led to it")
    expect(context).to_contain_text("uma asked")
    expect(context).to_contain_text("In the session “The March invoice”")
    expect(context).to_contain_text("had read what others wrote, which may have caused this call: fetch_url")
    assert barriers(page) == []
    card.get_by_role("link", name="http_request").click()
    page.get_by_text("1 earlier call of this turn").click()
    expect(page.get_by_role("region", name="Arguments of fetch_url")).to_contain_text(sink.url("/invoice"))
    expect(page.get_by_role("link", name="its session")).to_have_count(0)
    page.go_back()

    card.focus()
    page.keyboard.press("c")
    page.keyboard.type("all right")  # with letters that are keys elsewhere
    expect(card.get_by_label("Comment on http_request")).to_have_value("all right")
    card.focus()
    page.keyboard.press("a")
    assert http.get("/approvals", scope="own_turns", session_id=session_id)["items"][0]["status"] == "pending"
    page.keyboard.press("Enter")
    expect(card).to_have_count(0)
    expect(page.locator("body")).not_to_be_focused()
    http.until_over(session_id)
    [decided] = http.get("/approvals", scope="own_turns", session_id=session_id)["items"]
    assert (decided["status"], decided["decided_by"], decided["comment"]) == ("approved", "kai", "all right")
    assert [request.json() for request in sink.at("/by-key")] == [{"amount": 2340}]

    # The same in the chat, for people of the session.
    http.put(f"/sessions/{session_id}/participants/kai", {"access": "read"})
    again = script(content="Then not.", tool_calls=[[post_call(sink.url("/by-key"), '{"amount": 1}')]])
    page.goto(f"/#/sessions/{session_id}")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    http.say(session_id, again)
    waiting = page.get_by_role("region", name="Tool call http_request").last
    waiting.get_by_label("Comment on http_request").fill("too late")
    waiting.get_by_role("button", name="Reject").click()
    expect(waiting).to_contain_text("rejected by kai")
    expect(waiting).to_contain_text("too late")
    expect(waiting.get_by_role("button", name="Reject")).to_have_count(0)
    expect(page.get_by_role("log").get_by_text("Then not.", exact=True)).to_be_visible()
    http.close()


def test_a_tool_approved_for_the_session_waits_no_more(
    parley: AppHost, http: Http, visit: Visit, sink: Sink, under: Callable[..., str]
) -> None:
    # With nothing private in reach, or the rule of two would ask for each call.
    session_id = under(tools=["http_request"], allow_for_session=True)
    requester = visit(parley).open("sessions", session_id)
    twice = [[post_call(sink.url("/for-session"), '{"n": 1}')], [post_call(sink.url("/for-session"), '{"n": 2}')]]
    http.say(session_id, script(content="Both sent.", tool_calls=twice))
    requester.get_by_role("link", name="Review").click()
    requester.get_by_label("Also approve later calls of http_request in this session: by the agent").check()
    requester.get_by_role("button", name="Approve").click()
    expect(requester.locator(".outcome")).to_contain_text("also later calls in this session: by the agent")
    requester.get_by_role("link", name="its session").click()
    expect(requester.get_by_role("log").get_by_text("Both sent.", exact=True)).to_be_visible()
    calls = requester.get_by_role("region", name="Tool call http_request")
    expect(calls).to_have_count(2)
    expect(calls.first).to_contain_text("approved by olga")
    expect(calls.last).to_contain_text("completed")
    expect(calls.last).not_to_contain_text("approved by")
    assert [request.json() for request in sink.at("/for-session")] == [{"n": 1}, {"n": 2}]
    assert len(http.get("/approvals", session_id=session_id)["items"]) == 1


def test_who_asked_may_not_approve_under_such_a_policy_but_may_reject(
    parley: AppHost, http: Http, visit: Visit, sink: Sink, under: Callable[..., str]
) -> None:
    session_id = under(forbid_self_approval=True, allow_changes=False)
    http.say(session_id, script(content="Then not.", tool_calls=[[post_call(sink.url("/own"), "pay\u200b")]]))
    [approval] = http.get("/approvals", session_id=session_id)["items"]
    other = visit(parley, user="ana;approver").open("approvals", approval["id"])
    expect(other.get_by_role("button", name="Approve")).to_be_enabled()
    expect(other.get_by_role("region", name="Exact arguments")).to_contain_text(r"pay\u200b")
    # The policy takes the arguments as they are, or not at all.
    expect(other.get_by_role("button", name="Change the arguments")).to_have_count(0)

    page = visit(parley).open("approvals", approval["id"])
    expect(page.get_by_text("You asked for this yourself")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    page.get_by_label("Comment").fill("changed my mind")
    page.get_by_role("button", name="Reject").click()
    for seen in (page, other):
        expect(seen.locator(".outcome")).to_contain_text("rejected by olga")
        expect(seen.locator(".outcome")).to_contain_text("changed my mind")
    page.get_by_role("link", name="its session").click()
    expect(page.get_by_role("log").get_by_text("Then not.", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Tool call http_request")).to_contain_text("rejected by olga")
    assert sink.at("/own") == []


def test_numbers_are_shown_changed_and_sent_digit_for_digit(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Exact", config={"approval_mode": "manual"})
    visitor = visit(parley)
    visitor.expected = re.compile("422")  # what the tool's schema refuses, below
    page = visitor.open("sessions", session_id)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    beyond = call("read_attachment", attachment_id="none", start=9007199254740993)  # refused, and shown
    whole = call("read_attachment", attachment_id="none", start=5.0)
    http.say(session_id, script(content="Read.", tool_calls=[[beyond], [whole]]))
    log = page.get_by_role("log", name="Messages")
    # Once as the event told it, once as the API does.
    expect(log.get_by_role("region", name="Arguments of read_attachment").first).to_contain_text("9007199254740993")
    page.reload()
    expect(log.get_by_role("region", name="Arguments of read_attachment").first).to_contain_text("9007199254740993")

    page.get_by_role("link", name="Review").click()
    arguments = page.get_by_role("region", name="Exact arguments")
    expect(arguments.locator("dl")).to_contain_text("5.0")
    page.get_by_role("button", name="Change the arguments").click()
    editor = page.get_by_label("Arguments as JSON")
    expect(editor).to_have_value(re.compile(r'"start": 5\.0'))
    editor.fill('{"start": 9007199254740995, "attachment_id": "none"}')
    diff = page.get_by_role("region", name="What is changed")
    expect(diff.locator(".added")).to_contain_text("9007199254740995")
    with page.expect_request(re.compile("/decision$")) as refused:
        page.get_by_role("button", name="Approve with changes").click()
    assert '"start":9007199254740995' in str(refused.value.post_data)
    expect(page.locator(".said-box")).to_contain_text("start")
    editor.fill('{"start": 7.0, "attachment_id": "none"}')
    page.get_by_role("button", name="Approve with changes").click()
    expect(page.get_by_role("heading", name="Approved with changes")).to_be_visible()
    expect(diff.locator(".added")).to_contain_text("7.0")
    expect(page.get_by_role("heading", name="read_attachment was approved")).to_be_visible()
    expect(arguments.locator("dl")).to_contain_text("7.0")
    page.get_by_role("link", name="its session").click()
    expect(page.get_by_role("log").get_by_text("Read.", exact=True)).to_be_visible()
    changed = page.get_by_role("region", name="Tool call read_attachment").last
    expect(changed.get_by_role("region", name="Arguments of read_attachment")).to_contain_text("7.0")
    expect(changed.get_by_role("region", name="What is changed").locator(".removed")).to_contain_text("5.0")
    page.get_by_role("link", name="Approvals", exact=True).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="read_attachment")).first
    expect(row).to_contain_text("changed")
    expect(row).to_contain_text('"start":7.0')


_REFUNDS: dict[str, Any] = {
    "required": False,
    "quorum": 1,
    "rules": [
        {
            "name": "Elsewhere",
            "when": {"argument": "url", "part": "host", "ne": "api.example.com"},
            "then": {"required": True, "roles": ["legal"], "quorum": 2, "forbid_self_approval": True},
        },
        {"name": "Deletes", "when": {"argument": "method", "eq": "DELETE"}, "then": {"required": True}},
    ],
}


def test_a_policy_is_read_and_tested_beside_it_saved_or_not(parley: AppHost, http: Http, visit: Visit) -> None:
    floor = {"http_request": "auto"}
    http.agent("web-tested", "Tested", policies={"http_request": _REFUNDS}, approval_floor=floor, containment="off")
    page = visit(parley, user="ben").open("agents", "web-tested")
    policy, form = page.get_by_role("region", name="Policy of http_request"), page.get_by_role("form", name="Test of")
    expect(policy).to_contain_text("only if a rule holds")
    expect(policy).to_contain_text(
        "If host of url is not “api.example.com”, a call needs the approval of 2 people (any legal)"
    )
    outcome = form.get_by_role("status", name="What would happen")
    arguments, test = form.get_by_label("Arguments as JSON"), form.get_by_role("button", name="Test")
    expect(arguments).to_have_value(re.compile('"method": "GET"'))

    arguments.fill('{"method": "POST", "url": "https://api.example.org/refunds"}')
    test.click()
    expect(outcome).to_contain_text("It waits for an approval.")
    expect(outcome).to_contain_text("2 people (any legal) by the rule “Elsewhere”")
    expect(outcome).to_contain_text("Quorum: 2. Not by the user who asked for the turn.")
    expect(outcome.get_by_role("listitem").filter(has_text="Deletes")).to_contain_text("does not hold")
    assert barriers(page) == []
    # What was answered to other arguments is not shown.
    arguments.fill('{"method": "POST", "url": "https://api.example.com/refunds"}')
    expect(outcome).to_have_count(0)
    form.get_by_label("Approval mode").select_option("auto")
    test.click()
    expect(outcome).to_contain_text("It runs at once")
    form.get_by_label("Approval mode").select_option("manual")
    test.click()
    expect(outcome).to_contain_text("every call waits")
    expect(outcome).to_contain_text("any approver by the policy")
    arguments.fill('{"method": "POST"}')
    test.click()
    expect(outcome).to_contain_text("It is refused")
    expect(outcome).to_contain_text("url")
    arguments.fill("{")
    test.click()
    expect(form.get_by_role("alert")).to_contain_text("JSON")

    # An admin tests changes before they are a version.
    page = visit(parley).open("agents", "web-tested")
    form = page.get_by_role("form", name="Test of")
    expect(form).to_contain_text("Tests the saved version.")
    page.locator("details[open]").get_by_label("Calls need an approval").select_option("always")
    expect(form).to_contain_text("Tests your changes, which are not saved.")
    form.get_by_label("Arguments as JSON").fill('{"method": "GET", "url": "https://api.example.com/"}')
    form.get_by_role("button", name="Test").click()
    outcome = form.get_by_role("status", name="What would happen")
    expect(outcome).to_contain_text("requires an approval of each call of http_request")
    assert http.get("/agents/web-tested")["version"] == 1


def test_the_tools_are_listed_with_what_they_risk(parley: AppHost, visit: Visit) -> None:
    page = visit(parley, user="ben").open("agents")
    page.get_by_role("link", name="All tools").click()
    tools = page.get_by_role("list", name="Tools").get_by_role("listitem")
    request = tools.filter(has_text="http_request")
    expect(request).to_contain_text("each call needs an approval")
    expect(request).to_contain_text(
        "Built in · Not idempotent · risks: reads untrusted input, acts on the outside · time limit 30 s"
    )
    expect(tools.filter(has_text="calculate")).to_contain_text("runs automatically")
    request.get_by_text("Arguments", exact=True).click()
    expect(request.get_by_role("region", name="Arguments of http_request")).to_contain_text('"method"')
    assert barriers(page) == []
