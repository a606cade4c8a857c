"""What a session is made of, and how it is steered: its agent, its checkpoints and branches, its exported files."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.processes import AppHost
from tests.web.browsing import Http, Visitor

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
