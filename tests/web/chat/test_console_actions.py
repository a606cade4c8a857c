"""What a person can do with a session, a message and an approval, and that the page shows what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


_DROP = """(form, [name, text]) => {
    const files = new DataTransfer()
    files.items.add(new File([text], name, { type: 'text/plain' }))
    form.dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }))
}"""
_PASTE = """(field, [name, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))
    const files = new DataTransfer()
    files.items.add(new File([bytes], name, { type: 'image/png' }))
    field.dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true, cancelable: true }))
}"""
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_sessions_are_made_from_templates_named_tagged_found_and_moved_along(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    visitor = visit(parley, user="tess;approver,admin")
    page = visitor.open()
    expect(page.get_by_text("No session yet")).to_be_visible()
    page.get_by_role("button", name="Start one").click()
    page.get_by_role("radio", name=re.compile("Research")).check()
    page.get_by_role("button", name="Create").click()
    page.get_by_role("button", name="Untitled").click()
    page.get_by_label("Name of the session").fill("A walrus study")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="A walrus study")).to_be_visible()

    page.get_by_label("Add a tag").click()
    page.get_by_role("button", name="follow-up").click()
    header = page.locator(".session-header")
    tags = header.locator(".tag")
    expect(tags.filter(has_text="follow-up")).to_be_visible()
    page.get_by_role("button", name="Remove tag work").click()
    expect(tags.filter(has_text="work")).to_have_count(0)

    page.get_by_label("Message", exact=True).fill(script(content="The tusks of a walrus are teeth."))
    page.keyboard.press("Enter")
    expect(page.get_by_text("The tusks of a walrus are teeth.", exact=True)).to_be_visible()

    sessions = page.get_by_role("navigation", name="Sessions")
    search = sessions.get_by_label("Search sessions and messages")
    search.fill("tusks")
    hits = sessions.get_by_role("region", name="Found in messages")
    # The list alone: what was found for the words before may still stand below it.
    found = sessions.locator(".rows > ul").get_by_role("link", name=re.compile("A walrus study"))
    expect(hits.locator("mark").first).to_contain_text("tusks")  # in the question, and in the answer once it is stored
    search.fill("no such thing anywhere")
    expect(sessions.get_by_text("Nothing found")).to_be_visible()
    search.fill("walrus study")
    expect(found).to_be_visible()
    search.fill("")
    sessions.get_by_label("Tag").select_option("personal")
    expect(sessions.get_by_text("Nothing found")).to_be_visible()
    sessions.get_by_label("Tag").select_option("follow-up")
    expect(found).to_be_visible()

    header.get_by_label("More").click()
    header.get_by_role("button", name="Suspend").click()
    expect(page.get_by_text("This session is suspended.")).to_be_visible()
    header.get_by_label("More").click()
    header.get_by_role("button", name="Resume").click()
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    header.get_by_label("More").click()
    header.get_by_role("button", name="End for good").click()
    expect(page.get_by_text("This session has ended.")).to_be_visible()
    header.get_by_label("More").click()
    header.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Choose a session")).to_be_visible()
    sessions.get_by_label("Tag").select_option("")
    expect(sessions.get_by_text("No session yet")).to_be_visible()


def test_a_message_is_marked_answered_again_and_both_answers_are_kept(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Twice answered")
    http.say(session_id, script(echo=False, content="An answer."))
    page = visit(parley).open("sessions", session_id)
    answer = page.locator(".message.assistant")
    expect(answer).to_contain_text("An answer.")
    answer.hover()
    answer.get_by_role("button", name="Bookmark", exact=True).click()
    expect(answer.get_by_role("button", name="Remove bookmark")).to_be_visible()
    page.get_by_label("Bookmarks (1)").click()
    expect(page.locator(".menu .panel").get_by_role("link", name=re.compile("An answer"))).to_be_visible()
    page.keyboard.press("Escape")

    question = page.locator(".message.user")
    question.hover()
    question.get_by_role("button", name="Answer again").click()
    branches = page.get_by_label(re.compile(r"Branches \(2\)"))
    expect(branches).to_be_visible()
    expect(page.locator(".message.assistant")).to_have_count(1)
    expect(page.locator(".message.assistant").get_by_role("button", name="Bookmark", exact=True)).to_have_count(1)
    branches.click()
    page.get_by_role("button", name="First answers").click()
    # The first answer is back, with its mark.
    expect(page.locator(".message.assistant").get_by_role("button", name="Remove bookmark")).to_have_count(1)


def test_a_fork_is_a_session_of_its_own(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("To be forked")
    http.say(session_id, script(content="Up to here."))
    http.say(session_id, script(content="Not beyond."))
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_text("Not beyond.")).not_to_have_count(0)
    answer = page.locator(".message.assistant").first
    answer.hover()
    answer.get_by_role("button", name="Fork from here").click()
    expect(page.get_by_text("Forked into a session of its own.")).to_be_visible()
    expect(page.locator(".message.assistant")).to_have_count(1)
    expect(page.locator(".message.assistant")).to_contain_text("Up to here.")
    assert session_id not in page.url


def test_files_are_attached_by_drop_paste_and_choice_and_shown_with_the_message(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Files")
    page = visit(parley).open("sessions", session_id)
    field = page.get_by_label("Message", exact=True)
    page.get_by_role("form", name="New message").evaluate(_DROP, ["notes.txt", "dropped words"])
    field.evaluate(_PASTE, ["dot.png", _DOT])
    page.get_by_label("Attach a file").set_input_files(
        [{"name": "table.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}]
    )
    waiting = page.get_by_role("list", name="Files to send")
    expect(waiting.locator("li.ready")).to_have_count(3)
    page.get_by_role("button", name="Remove table.csv").click()
    field.fill(script(content="Seen.") + "\nHere they are")
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant")).to_contain_text("Seen.")
    expect(waiting).to_have_count(0)
    shown = page.locator(".message.user").get_by_role("list", name="Attachments")
    expect(shown.get_by_role("img", name="dot.png")).to_be_visible()
    assert shown.get_by_role("img").evaluate("image => image.src").startswith("blob:")
    with page.expect_download() as download:
        shown.get_by_role("button", name=re.compile("notes.txt")).click()
    assert download.value.path().read_text() == "dropped words"


def test_a_file_that_is_refused_says_why_and_hinders_nothing(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Refused")
    visitor = visit(parley)
    page = visitor.open("sessions", session_id)
    page.get_by_label("Attach a file").set_input_files([{"name": "empty.txt", "mimeType": "text/plain", "buffer": b""}])
    expect(page.get_by_role("list", name="Files to send").locator("li.failed small")).to_have_text(re.compile(r"\w+"))
    page.get_by_label("Message", exact=True).fill(script(content="Fine."))
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant")).to_contain_text("Fine.")
    # The browser notes the refused request itself.
    assert len(visitor.logged) == 1
    visitor.logged.clear()


def test_a_turn_is_stopped_and_what_was_said_stays(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Interrupted")
    page = visit(parley).open("sessions", session_id)
    page.get_by_label("Message", exact=True).fill(script(tokens=2000, token_ms=20))
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant .said")).to_have_text(re.compile(r"(\S+\s+){5,}"))
    page.get_by_role("button", name="Stop").click()
    answer = page.locator(".message.assistant")
    expect(answer).to_contain_text("Cancelled")
    [stored] = http.get(f"/sessions/{session_id}/messages", role="assistant")["items"]
    assert stored["status"] == "cancelled"
    assert " ".join(answer.locator(".markdown").inner_text().split()) == " ".join(stored["content"].split())


def test_arguments_are_changed_with_a_diff_and_the_next_call_shows_what_became_of_this_one(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    session_id = http.session("Changed")
    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/changed"), '{"amount": 100}')]]))
    page = visit(parley, user="ana;approver").open("approvals")
    page.get_by_role("link").filter(has_text="/changed").click()
    page.get_by_role("button", name="Change the arguments").click()
    editor = page.get_by_label("Arguments as JSON")
    editor.fill("{")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    changed = {"url": sink.url("/changed"), "method": "POST", "body": '{"amount": 1}'}
    editor.fill(str(changed).replace("'", '"').replace('"{"amount": 1}"', '"{\\"amount\\": 1}"'))
    diff = page.get_by_role("region", name="What is changed")
    expect(diff.locator(".removed").filter(has_text="100")).to_have_count(1)
    page.get_by_role("button", name="Approve with changes").click()
    expect(page.get_by_role("heading", name="Approved with changes")).to_be_visible()
    for _ in range(200):
        if sink.at("/changed"):
            break
        page.wait_for_timeout(50)
    assert [request.json() for request in sink.at("/changed")] == [{"amount": 1}]
    http.until_over(session_id)

    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/changed-2"))]]))
    page.goto("/#/approvals")
    page.get_by_role("link").filter(has_text="/changed-2").click()
    expect(page.get_by_role("region", name="History of this tool")).to_contain_text("approved")
    page.get_by_label("Comment").fill("not today")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_text("not today")).to_be_visible()
    assert sink.at("/changed-2") == []


def test_the_inbox_fills_and_empties_by_itself_and_only_approvers_may_decide(
    parley: AppHost, http: Http, visit: Visit, sink: Sink
) -> None:
    first = visit(parley, user="ana;approver").open("approvals")
    expect(first.get_by_role("heading", name=re.compile("Waiting"))).to_be_visible()
    expect(first.get_by_text("live", exact=True)).to_be_visible()
    session_id = http.session("Watched")
    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/watched"))]]))
    card = first.get_by_role("link").filter(has_text="/watched")
    expect(card).to_be_visible()
    [approval] = http.get("/approvals", session_id=session_id)["items"]
    owner = visit(parley, user="olga").open("approvals", approval["id"])
    expect(owner.get_by_text("You may look at this, but an approver decides.")).to_be_visible()
    expect(owner.get_by_text("live", exact=True)).to_be_visible()  # so that only an event tells it the rest
    http.post(f"/approvals/{approval['id']}/decision", {"decision": "reject"})
    expect(card).to_have_count(0)
    expect(owner.locator(".outcome")).to_contain_text("rejected by olga")


def test_figures_and_timeline_tell_what_a_session_did(parley: AppHost, http: Http, visit: Visit, sink: Sink) -> None:
    session_id = http.session("Told")
    http.say(session_id, script(content="ok", tool_calls=[[call("calculate", expression="1+1")]]))
    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/told"))]]))
    [approval] = http.get("/approvals", session_id=session_id)["items"]
    http.post(f"/approvals/{approval['id']}/decision", {"decision": "approve"})
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_role("region", name="Tool call http_request")).to_contain_text("completed")
    page.locator(".session-header").get_by_label("More").click()
    page.get_by_role("link", name="Figures and audit trail").click()
    expect(page.get_by_role("heading", name="Told")).to_be_visible()
    expect(page.get_by_role("img", name="Tokens by turn")).to_be_visible()
    trail = page.get_by_role("region", name="Audit trail")
    expect(trail).to_contain_text("No line is missing, altered, moved or added.")
    expect(trail.get_by_role("listitem").filter(has_text="approval.decided")).to_contain_text("olga")
    turns = page.get_by_role("region", name="Turns")
    turns.get_by_role("link").first.click()
    picture = page.locator(".timeline")
    expect(picture).to_contain_text("Waited for a person: http_request")
    expect(picture).to_contain_text("approved by olga")
    expect(picture).to_contain_text("model, step 2")


def test_acting_as_somebody_else_shows_what_they_may_see(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Private to olga")
    visitor = visit(parley)
    page = visitor.open()
    expect(page.get_by_role("link", name=re.compile("Private to olga"))).to_be_visible()
    # The test's own start of a page must not undo the choice.
    page.get_by_role("button", name="olga").click()
    expect(page.get_by_role("dialog", name="Acting as")).to_be_visible()
    page.keyboard.press("Escape")
    stranger = visit(parley, user="stranger")
    stranger.expected = re.compile("404")  # for each thing it asks for, whenever the answer comes
    other = stranger.open("sessions", session_id)
    expect(other.get_by_role("alert")).to_contain_text("No such session")
