"""Whatever is cut in mid-stream — a reload, the network — a page ends with the text that is stored, once.

A host that is killed is in `test_console_tour.py`, which has one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost
from tests.web.support.browsing import Http, Visitor
from tests.web.support.cutting import (
    begin_a_slow_answer,
    expect_the_stored_text,
    forgive_cut_connections,
    wait_for_words,
)

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]


def test_a_reload_and_a_second_tab_in_mid_stream_show_the_same(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Twice")
    visitor = visit(parley)
    first = visitor.open("sessions", session_id)
    begin_a_slow_answer(first)
    second = visitor.tab()
    second.goto(f"/#/sessions/{session_id}")
    wait_for_words(second, 8)
    first.reload()
    wait_for_words(first, 8)
    expect_the_stored_text(first, http, session_id)
    expect_the_stored_text(second, http, session_id)

    # What one says in one tab, the other shows.
    second.get_by_label("Message", exact=True).fill(script(content="Heard in both."))
    second.keyboard.press("Enter")
    expect(first.locator(".message.assistant").last).to_contain_text("Heard in both.")


def test_a_lost_network_in_mid_stream(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Offline")
    visitor = visit(parley)
    page = visitor.open("sessions", session_id)
    begin_a_slow_answer(page)
    visitor.context.set_offline(True)
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    before = page.locator(".message.assistant .markdown").inner_text()
    assert before
    visitor.context.set_offline(False)
    expect(page.get_by_text("Reconnecting…")).to_have_count(0)
    expect_the_stored_text(page, http, session_id)
    forgive_cut_connections(visitor)


def test_live_events_that_never_arrive_are_read_from_the_log(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Deaf in one ear")
    visitor = visit(parley)
    numbers = count()
    lost: list[str | bytes] = []

    def hear(socket: WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            if "stream.chunk" in str(message) and next(numbers) % 2:
                lost.append(message)
            else:
                socket.send(message)

        socket.connect_to_server().on_message(pass_on)

    visitor.page.route_web_socket(re.compile("/client/"), hear)
    page = visitor.open("sessions", session_id)
    begin_a_slow_answer(page)
    expect_the_stored_text(page, http, session_id)
    assert lost


def test_a_group_that_could_not_be_joined_is_tried_again(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Not yet")
    visitor = visit(parley)
    page = visitor.open()
    asked: list[int] = []

    def answer(route: Route) -> None:
        asked.append(len(asked))
        if len(asked) > 2:
            route.continue_()
            return
        joining = {"session_id": session_id, "connection_id": "x", "is_joined": False}
        route.fulfill(status=503 if len(asked) == 1 else 200, json=joining)

    page.route("**/subscribe", answer)
    visitor.expected = re.compile(r"503 .*/subscribe$")
    with page.expect_response(lambda found: found.url.endswith("/subscribe") and len(asked) == 3):
        visitor.open("sessions", session_id)
    http.say(session_id, script(content="Heard at last."))
    expect(page.locator(".message.assistant").last).to_contain_text("Heard at last.")
