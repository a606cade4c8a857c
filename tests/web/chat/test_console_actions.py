"""What a person can do with a session, a message and an approval, and that the page shows what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.web.support.axe import barriers
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
    log = page.get_by_role("log", name="Messages")
    expect(log.get_by_text("The tusks of a walrus are teeth.", exact=True)).to_be_visible()

    sessions = page.get_by_role("navigation", name="Sessions")
    search = sessions.get_by_label("Search sessions and messages")
    search.fill("tusks")
    hits = sessions.get_by_role("region", name="Found in messages")
    # The list alone: what was found for the words before may still stand below it.
    found = sessions.locator(".rows .day").get_by_role("link", name=re.compile("A walrus study"))
    expect(hits.locator("mark").first).to_contain_text("tusks")  # in the question, and in the answer once it is stored
    expect(sessions.get_by_text("Nothing found")).to_have_count(0)  # though no session has such a name
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
    header.get_by_role("button", name="End for good…").click()
    page.get_by_role("button", name="End it").click()
    expect(page.get_by_text("This session has ended.")).to_be_visible()
    header.get_by_label("More").click()
    header.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="What shall we work on?")).to_be_visible()
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
    expect(page.get_by_role("log").get_by_text("Not beyond.")).not_to_have_count(0)
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


def test_a_file_that_is_refused_says_why_and_is_taken_off_by_hand(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Refused")
    visitor = visit(parley)
    page = visitor.open("sessions", session_id)
    page.get_by_label("Attach a file").set_input_files([{"name": "empty.txt", "mimeType": "text/plain", "buffer": b""}])
    expect(page.get_by_role("list", name="Files to send").locator("li.failed small")).to_have_text(re.compile(r"\w+"))
    page.get_by_label("Message", exact=True).fill(script(content="Fine."))
    page.keyboard.press("Enter")
    expect(page.get_by_text("A file could not be sent.")).to_be_visible()
    page.get_by_label("Remove empty.txt").click()
    page.get_by_label("Message", exact=True).press("Enter")
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
    asked = page.get_by_role("article")
    asked.filter(has_text="/changed").get_by_role("link", name="Review").click()
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
    http.until_over(session_id)
    assert [request.json() for request in sink.at("/changed")] == [{"amount": 1}]

    http.say(session_id, script(content="ok", tool_calls=[[post_call(sink.url("/changed-2"))]]))
    page.goto("/#/approvals")
    asked.filter(has_text="/changed-2").get_by_role("link", name="Review").click()
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
    card = first.get_by_role("article").filter(has_text="/watched")
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
    tree = page.get_by_role("tree", name="Timeline")
    expect(tree.get_by_role("treeitem", name="waited for a person")).to_contain_text("approved by olga")
    expect(tree.get_by_role("treeitem", name="model, step 2")).to_be_visible()


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


def test_a_session_without_a_name_is_listed_by_what_was_asked_and_said_and_what_it_waits_for(
    parley: AppHost, sink: Sink, visit: Visit
) -> None:
    visitor = visit(parley, user="lily;approver")
    http = Http(parley.base_url, "lily;approver")
    page = visitor.open("sessions")
    session_id = http.post("/sessions", {})["id"]
    http.say(session_id, "# Was the walrus\nweighed?")
    waiting = http.session("Waits")
    http.say(waiting, script(content="Sent.", tool_calls=[[post_call(sink.url("/listed"))]]))
    page.reload()
    today = page.get_by_role("region", name="Today")
    expect(today.get_by_role("link", name=re.compile("^Was the walrus"))).to_be_visible()
    row = today.get_by_role("link", name=re.compile("Waits"))
    expect(row).to_contain_text("needs your approval")
    # Those of earlier tests wait for every approver, too.
    count = len(http.get("/approvals", status="pending")["items"])
    expect(page).to_have_title(f"({count}) Chat · Parley")
    icon = page.locator('link[rel="icon"]')
    expect(icon).to_have_attribute("href", re.compile("icon-waiting"))
    assert page.request.get(icon.get_attribute("href") or "").ok
    [approval] = http.get("/approvals", session_id=waiting)["items"]
    http.post(f"/approvals/{approval['id']}/decision", {"decision": "reject"})
    expect(page).to_have_title(f"({count - 1}) Chat · Parley" if count > 1 else "Chat · Parley")
    quiet = re.compile(r"/icon-(?!waiting)")
    expect(icon).to_have_attribute("href", re.compile("icon-waiting") if count > 1 else quiet)
    expect(row).not_to_contain_text("needs your approval")
    row.click()
    expect(page).to_have_title(re.compile("Waits · Chat · Parley$"))
    http.close()


def test_everything_is_reached_from_the_palette_and_escape_stops_what_runs(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Palette goal")
    page = visit(parley).open("approvals")
    expect(page.get_by_role("heading", name="Approvals")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Shortcuts")).to_contain_text("Stop the turn that runs")
    assert barriers(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Go to")
    expect(palette.get_by_role("option", name=re.compile("Webhooks"))).to_be_visible()
    page.keyboard.type("palette GOAL")
    option = palette.get_by_role("option", name=re.compile("Palette goal"))
    expect(option).to_have_attribute("aria-selected", "true")
    assert barriers(page) == []
    page.keyboard.press("Enter")
    box = page.get_by_label("Message", exact=True)
    expect(box).to_be_focused()

    box.fill(script(tokens=2000, token_ms=20))
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant .said")).to_have_text(re.compile(r"(\S+\s+){5,}"))
    page.get_by_label("More", exact=True).click()
    page.keyboard.press("Escape")  # closes the menu alone
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    box.press("Escape")
    expect(page.locator(".message.assistant .ending")).to_have_text("Cancelled")
    http.until_over(session_id)
    assert http.get(f"/sessions/{session_id}/turns")["items"][0]["status"] == "cancelled"
    mark = page.locator(".message.assistant").get_by_label("Bookmark", exact=True)
    mark.focus()
    expect(page.locator(".message.assistant .actions")).to_have_css("opacity", "1")
    mark.press("Enter")
    expect(page.locator(".session-header").get_by_label("Bookmarks (1)")).to_be_visible()

    page.keyboard.press("Control+k")
    page.keyboard.type("insi")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Insight")).to_be_focused()
    page.keyboard.press("n")
    expect(page.get_by_role("dialog", name="New session")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Search sessions and messages")).to_be_focused()


def test_whoever_wants_to_is_notified_of_approvals_while_they_look_elsewhere(
    parley: AppHost, sink: Sink, visit: Visit
) -> None:
    visitor = visit(parley, user="nora;approver")
    http = Http(parley.base_url, "nora;approver")
    visitor.context.add_init_script(
        """class Told {
            static permission = 'default'
            static async requestPermission() { return (Told.permission = 'granted') }
            constructor(title, options) { (window.told ??= []).push([title, options.body, this]) } close() {} }
        window.Notification = Told
        Object.defineProperty(document, 'hidden', { get: () => window.isHidden === true })"""
    )
    page = visitor.open("tools")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    bell = page.get_by_role("button", name="Notify me of approvals")
    risky = script(tool_calls=[[post_call(sink.url("/told"))]])
    before = len(http.get("/approvals", status="pending")["items"])
    bell.click()
    expect(bell).to_have_attribute("aria-pressed", "true")
    http.say(http.session("Seen"), risky)
    expect(page).to_have_title(re.compile(rf"^\({before + 1}\)"))
    assert page.evaluate("window.told") is None, "what one is looking at is not told"
    page.evaluate("window.isHidden = true")
    http.say(http.session("Told"), risky)
    expect(page).to_have_title(re.compile(rf"^\({before + 2}\)"))
    page.wait_for_function("window.told?.length === 1")
    title, body, _ = page.evaluate("window.told[0]")
    assert (title, body) == ("An approval waits for you", "http_request, asked by nora")
    page.evaluate("window.told[0][2].onclick()")
    expect(page).to_have_url(re.compile("#/approvals/.+"))
    http.close()


def test_long_names_and_notices_leave_everything_in_reach_on_a_small_phone(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen and more " * 2)
    http.put(f"/sessions/{session_id}/tags/{'x' * 64}")
    http.say(session_id, script(content="Said."))
    visitor = visit(parley, size={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = visitor.open("sessions")
    row = page.get_by_role("link", name=re.compile("Donaudampf"))
    expect(row).to_be_visible()
    widths = "[document.documentElement.scrollWidth, document.querySelector('main').scrollWidth]"
    assert page.evaluate(widths) == [360, 360]
    row.tap()
    header = page.locator(".session-header")
    for name in ("All sessions", "Bookmarks (0)", "Share", "More"):
        expect(header.get_by_label(name, exact=True)).to_be_in_viewport(ratio=1)
    expect(header.get_by_label(f"Remove tag {'x' * 64}")).to_be_in_viewport(ratio=1)
    assert page.evaluate(widths) == [360, 360]

    # Without a pointer that hovers, and with a notice that leaves the composer free.
    page.locator(".message.assistant").get_by_label("Bookmark", exact=True).tap()
    expect(header.get_by_label("Bookmarks (1)")).to_be_visible()
    page.locator(".message.assistant").get_by_label("Fork from here").tap()
    notice = page.locator(".said-box p")
    expect(notice).to_have_text("Forked into a session of its own.")
    boxes = [page.locator(part).bounding_box() for part in (".composer", ".said-box p", ".rail")]
    tops = [(box["y"], box["y"] + box["height"]) for box in boxes if box is not None]
    assert len(tops) == 3
    assert all(above[1] <= below[0] + 0.5 for above, below in pairwise(tops)), tops
    assert barriers(page) == []


def test_a_message_joins_the_turn_that_runs_or_is_queued_and_says_so(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Queue")
    http.say(
        session_id, script(content="First.", tool_calls=[[call("current_time"), post_call("http://127.0.0.1:9/")]])
    )
    page = visit(parley).open("sessions", session_id)
    expect(page.get_by_text("Waiting for an approval")).to_be_visible()
    for content, keys in (("By keyboard.", "Control+Enter"), ("By choice.", "Enter")):
        if keys == "Enter":
            page.get_by_role("radio", name="Join this turn").check()
        page.get_by_label("Message", exact=True).fill(content)
        page.keyboard.press(keys)
        expect(page.locator(".message.user").filter(has_text=content)).to_contain_text("joined the turn")
    stored = http.get(f"/sessions/{session_id}/messages")["items"]
    expect(page.locator(".message.user")).to_have_count(3)
    assert len({message["turn_id"] for message in stored}) == 1
    page.get_by_role("radio", name="Queue").check()
    page.get_by_label("Message", exact=True).fill("And then?")
    page.keyboard.press("Enter")
    expect(page.locator(".message.user").last).to_contain_text("queued")
    expect(page.get_by_role("status").filter(has_text="Queued.")).to_contain_text("which waits for somebody")
    expect(page.get_by_text("Waiting for an approval")).to_have_count(0)
