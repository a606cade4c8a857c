"""What a session is made of, and how it is steered: its agent, its checkpoints and branches, its exported files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_an_agent_is_chosen_for_a_new_session_shown_with_its_version_and_changed(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    http.agent("web-librarian", "Librarian")
    http.agent("web-librarian", "Librarian", description="Finds what was said before.")  # its second version
    http.agent("web-clerk", "Clerk", tools=["calculate"])
    page = visit(parley).open()
    page.get_by_role("button", name="New session").click()
    dialog = page.get_by_role("dialog", name="New session")
    dialog.get_by_label("Name", exact=True).fill("With a librarian")
    expect(dialog.get_by_label("Agent")).to_have_value("assistant")
    dialog.get_by_label("Agent").select_option("Librarian")
    expect(dialog.get_by_text("Finds what was said before.")).to_be_visible()
    dialog.get_by_role("button", name="Create").click()

    agent = page.locator(".session-header").get_by_title("Agent")
    expect(agent).to_have_text(re.compile(r"Librarian\s*version 2"))
    session_id = page.url.rsplit("/", 1)[1]
    assert http.get(f"/sessions/{session_id}")["agent_id"] == "web-librarian"

    agent.click()
    choice = page.get_by_role("dialog", name="Agent")
    expect(choice.get_by_role("radio", name=re.compile("Librarian"))).to_be_focused()
    expect(choice.get_by_text("version 1 · tools: calculate")).to_be_visible()
    choice.get_by_role("radio", name=re.compile("Clerk")).check()
    choice.get_by_role("button", name="Choose").click()
    expect(choice).to_have_count(0)
    expect(agent).to_have_text(re.compile(r"Clerk\s*version 1"))
    assert http.get(f"/sessions/{session_id}")["agent_id"] == "web-clerk"

    http.post(f"/sessions/{session_id}/end")
    expect(page.get_by_text("This session has ended.")).to_be_visible()
    agent.click()
    expect(page.get_by_text("The session has ended: its agent stays.")).to_be_visible()
    expect(choice.get_by_role("radio", name=re.compile("Librarian"))).to_be_disabled()


def test_an_admin_makes_an_agent_and_is_told_when_somebody_else_was_faster(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    visitor = visit(parley)
    visitor.expected = re.compile("409")  # the late version, below
    page = visitor.open("agents")
    page.get_by_label("Id of a new agent").fill("web-scribe")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="A new agent")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("Scribe")
    page.get_by_label("Instructions").fill("Write it down.")
    page.get_by_label("All tools, also future ones").uncheck()
    tool = page.get_by_role("region", name="Tools").get_by_role("listitem").filter(has_text="fetch_url")
    tool.get_by_text("The tool’s default:").click()
    tool.get_by_label("Calls need an approval").select_option("always")
    tool.get_by_label("People who must approve").fill("2")
    tool.get_by_label("Least approval mode").select_option("manual")
    page.get_by_role("listitem").filter(has_text="http_request").get_by_role("checkbox").first.uncheck()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("web-scribe, version 1 by olga")).to_be_visible()
    made = http.get("/agents/web-scribe")
    assert (made["name"], made["instructions"]) == ("Scribe", "Write it down.")
    assert "http_request" not in made["tools"]
    assert made["policies"].keys() == {"fetch_url"}
    assert (made["policies"]["fetch_url"]["required"], made["policies"]["fetch_url"]["quorum"]) == (True, 2)
    assert made["approval_floor"] == {"fetch_url": "manual"}

    http.agent("web-scribe", "Another Scribe")
    page.get_by_label("Name", exact=True).fill("Late Scribe")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.locator(".said-box")).to_contain_text("changed since you read it")
    assert http.get("/agents/web-scribe")["name"] == "Another Scribe"

    other = visit(parley, user="ben").open("agents", "web-scribe")
    expect(other.get_by_label("Name", exact=True)).to_have_value("Another Scribe")
    expect(other.get_by_label("Name", exact=True)).to_be_disabled()
    expect(other.get_by_role("button", name="Save as a new version")).to_have_count(0)


def test_one_goes_back_to_a_checkpoint_and_what_came_later_stays_on_its_branch(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Draft")
    http.say(session_id, script(content="The first answer.") + "\nBegin")
    page = visit(parley).open("sessions", session_id)
    watcher = visit(parley).open("sessions", session_id)
    header, log = page.locator(".session-header"), page.get_by_role("log", name="Messages")
    expect(log).to_contain_text("The first answer.")
    header.get_by_label("More").click()
    header.get_by_role("button", name="Checkpoints and branches").click()
    places = page.get_by_role("dialog", name="Checkpoints and branches")
    expect(places.get_by_label("Label")).to_be_focused()
    page.keyboard.type("Before the risky part")
    page.keyboard.press("Enter")
    checkpoints = places.get_by_role("region", name="Checkpoints").get_by_role("listitem")
    expect(checkpoints).to_have_count(2)
    expect(checkpoints.first).to_contain_text("Before the risky part")
    expect(checkpoints.last).to_contain_text("Before “#script")
    page.keyboard.press("Escape")
    expect(places).to_have_count(0)

    http.say(session_id, script(content="A later answer."))
    http.put(f"/sessions/{session_id}/tags/follow-up")
    expect(log).to_contain_text("A later answer.")
    expect(watcher.get_by_role("log")).to_contain_text("A later answer.")
    page.reload()  # the tag was put by another program, which tells nobody
    expect(log).to_contain_text("A later answer.")
    header.get_by_label("More").click()
    header.get_by_role("button", name="Checkpoints and branches").click()
    places.get_by_role("button", name="Recover to here: Before the risky part").click()
    confirm = page.get_by_role("dialog", name="Recover to here?")
    expect(confirm).to_contain_text("Tags: none")
    expect(confirm.get_by_role("button", name="Leave it as it is")).to_be_focused()
    confirm.get_by_role("button", name="Recover", exact=True).click()
    expect(confirm).to_have_count(0)
    expect(log).not_to_contain_text("A later answer.")
    expect(log).to_contain_text("The first answer.")
    expect(watcher.get_by_role("log")).not_to_contain_text("A later answer.")
    expect(header.locator(".tag").filter(has_text="follow-up")).to_have_count(0)

    header.get_by_label("More").click()
    header.get_by_role("button", name="Checkpoints and branches").click()
    branches = places.get_by_role("region", name="Branches")
    expect(branches.get_by_role("listitem").filter(has_text="Branch 1")).to_contain_text("shown now")
    branches.get_by_role("button", name="Switch to First answers").click()
    expect(log).to_contain_text("A later answer.")
    expect(branches.get_by_role("listitem").filter(has_text="First answers")).to_contain_text("shown now")


def test_a_conversation_is_downloaded_in_the_format_that_is_chosen(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("To take away")
    http.say(session_id, script(content="Taken **along**."))
    page = visit(parley).open("sessions", session_id)
    more, header = page.locator(".session-header").get_by_label("More"), page.locator(".session-header")

    def downloaded(kind: str) -> tuple[str, bytes]:
        more.click()
        with page.expect_download() as download:
            header.get_by_role("button", name=kind, exact=True).click()
        return download.value.suggested_filename, download.value.path().read_bytes()

    name, content = downloaded("md")
    assert (name, b"Taken **along**." in content) == ("To take away.md", True)
    name, content = downloaded("json")
    said = [message["content"] for message in json.loads(content)["messages"] if message["role"] == "assistant"]
    assert (name, said) == ("To take away.json", ["Taken **along**."])
    name, content = downloaded("pdf")
    assert (name, content[:5]) == ("To take away.pdf", b"%PDF-")


def test_people_are_let_in_may_do_more_and_are_told_at_once_when_they_are_out(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Shared plans")
    http.say(session_id, script(content="Begun."))
    guest = visit(parley, user="gina")
    theirs = guest.open("sessions")
    expect(theirs.get_by_text("live", exact=True)).to_be_visible()
    page = visit(parley).open("sessions", session_id)
    page.get_by_role("button", name="Share", exact=True).click()
    people = page.get_by_role("dialog", name="Who is in this session")
    expect(people.get_by_text("Nobody else can see it.")).to_be_visible()
    people.get_by_label("User").fill("gina")
    page.keyboard.press("Enter")
    expect(people.get_by_label("What gina may do")).to_have_value("read")

    # Nobody reloads anything: the list, the composer and the page follow the right.
    theirs.get_by_role("link", name=re.compile("Shared plans.*Shared with you")).click()
    expect(theirs.get_by_text("You may read this session, and not write to it.")).to_be_visible()
    expect(theirs.get_by_label("Answer again")).to_have_count(0)
    people.get_by_label("What gina may do").select_option("write")
    theirs.get_by_label("Message", exact=True).fill(script(content="For us both."))
    theirs.keyboard.press("Enter")
    log = page.get_by_role("log")
    expect(log.get_by_text("For us both.", exact=True)).to_be_visible()
    expect(log.locator(".message.user .who > span:first-child")).to_have_text(["olga (you)", "gina"])
    theirs.get_by_label("More", exact=True).click()
    expect(theirs.get_by_role("button", name="Checkpoints and branches")).to_be_visible()
    expect(theirs.get_by_role("button", name="Delete…")).to_have_count(0)
    theirs.keyboard.press("Escape")
    guest.expected = re.compile("404")
    people.get_by_role("button", name="Remove gina").click()
    expect(theirs.get_by_role("alert")).to_contain_text("You can no longer read this session")
    theirs.get_by_role("link", name="Back to all sessions").click()
    expect(theirs.get_by_role("link", name=re.compile("Shared plans"))).to_have_count(0)


def test_a_guest_leaves_and_one_who_did_not_hear_of_it_is_told_by_the_next_refusal(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("To leave")
    http.say(session_id, script(content="Begun."))
    for user in ("lea", "deaf"):
        http.put(f"/sessions/{session_id}/participants/{user}", {"access": "write"})
    page = visit(parley, user="lea").open("sessions", session_id)
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.get_by_text("write (you)")).to_be_visible()
    page.get_by_role("button", name="Leave…").click()
    page.get_by_role("button", name="Leave", exact=True).click()
    expect(page.get_by_text("No session yet")).to_be_visible()
    assert [one["user_id"] for one in http.get(f"/sessions/{session_id}/participants")["items"]] == ["deaf"]

    visitor = visit(parley, user="deaf")
    visitor.expected = re.compile("404|negotiate|WebSocket")
    visitor.page.route("**/realtime/negotiate**", lambda route: route.abort())
    page = visitor.open("sessions", session_id)
    box = page.get_by_label("Message", exact=True)
    box.fill("hello")
    http.delete(f"/sessions/{session_id}/participants/deaf")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("You can no longer read this session")


def test_other_answers_and_other_questions_are_seen_where_they_begin_and_chosen_by_keyboard(
    parley: AppHost, http: Http, visit: Visit
) -> None:
    session_id = http.session("Forks")
    asked = http.say(session_id, script(content="An answer."))["message"]["id"]
    http.post(f"/sessions/{session_id}/messages/{asked}/regenerate", {})
    http.until_over(session_id)
    [checkpoint] = http.get(f"/sessions/{session_id}/checkpoints", limit=1)["items"]
    http.say(session_id, script(content="To the first."))
    [before] = http.get(f"/sessions/{session_id}/checkpoints", limit=1)["items"]
    assert before["id"] != checkpoint["id"]
    http.post(f"/sessions/{session_id}/recover", {"checkpoint_id": before["id"]})
    page = visit(parley).open("sessions", session_id)
    # Another question is not asked yet.
    expect(page.get_by_role("group", name="Continuation 2 of 2")).to_be_visible()
    http.say(session_id, script(content="To the second."))
    question = page.get_by_role("group", name=re.compile("Question . of 2"))
    expect(question).to_have_accessible_name("Question 2 of 2")
    question.get_by_role("button", name=re.compile("Previous question")).press("ArrowLeft")
    expect(question).to_have_accessible_name("Question 1 of 2")
    log = page.get_by_role("log")
    expect(log.get_by_text("To the first.", exact=True)).to_be_visible()
    expect(log.get_by_text("To the second.", exact=True)).to_have_count(0)
    expect(question.get_by_role("button", name=re.compile("Previous"))).to_be_focused()

    answer = page.get_by_role("group", name=re.compile("Answer . of 2"))
    expect(answer).to_have_accessible_name("Answer 2 of 2")
    answer.get_by_role("button", name=re.compile("Next")).press("Enter")  # there is none
    answer.get_by_role("button", name=re.compile("Previous")).press("Enter")
    expect(answer).to_have_accessible_name("Answer 1 of 2")
    expect(question).to_have_count(0)  # nothing was asked after this one
    answer.get_by_role("button", name=re.compile("Next")).click()
    expect(question).to_have_accessible_name("Question 1 of 2")
