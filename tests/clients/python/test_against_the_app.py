"""`parley-client` against the running app: each test once with the blocking client and once with the other.

The asynchronous client is driven from plain tests through `Blocking`, which runs each call to its end: so one text
tests both, and a method that one of them lacks fails.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import parley_client
import pytest
from parley_client import (
    AsyncClient,
    Client,
    Conflict,
    ContentDelta,
    Event,
    InvalidRequest,
    MessageStart,
    NotFound,
    Retries,
    ToolCallFrame,
    TurnEnd,
    TurnStillOpen,
    TurnText,
)

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.processes import AppHost, Sink

pytestmark = pytest.mark.e2e

OWNER = {"x-dev-user": "olga;approver"}
type Make = Callable[..., Any]


class Blocking:
    """An AsyncClient whose calls and streams are run to their end by a loop of its own."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(base_url, http=httpx.AsyncClient(trust_env=False), **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "every":
                args = (getattr(self._client, args[0].__name__), *args[1:])
            found = method(*args, **kwargs)
            return self._loop.run_until_complete(found) if inspect.isawaitable(found) else self._iterated(found)

        call.__name__ = name
        return call

    def _iterated(self, found: Any) -> Iterator[Any]:
        items = aiter(found)
        try:
            while True:
                yield self._loop.run_until_complete(anext(items))
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(items.aclose())

    def close(self) -> None:
        async def close() -> None:
            await self._client.aclose()
            await self._client._http.aclose()

        self._loop.run_until_complete(close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, parley: AppHost) -> Iterator[Make]:
    """Makes clients of the shared host."""
    made: list[Any] = []

    def client(user: str = OWNER["x-dev-user"], **options: Any) -> Any:
        options = {"headers": {"x-dev-user": user}, **options}
        if request.param == "sync":
            made.append(Client(parley.base_url, http=httpx.Client(trust_env=False), **options))
        else:
            made.append(Blocking(parley.base_url, **options))
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
def client(make: Make) -> Any:
    return make()


def answer_of(client: Any, session_id: str, turn_id: str) -> str:
    found = client.every(client.list_messages, session_id, role="assistant")
    return str([item.content for item in found if item.turn_id == turn_id][-1])


def test_a_turn_from_question_to_answer(client: Any) -> None:
    session = client.create_session(name="Hello", tags=["one"], metadata={"k": 1})
    posted = client.post_message(session.id, script(content="Forty-two, naïvely 🦊."))
    turn = client.wait_for_turn(session.id, posted.turn.id, timeout_s=60)

    assert (session.name, session.status, session.tags) == ("Hello", "CREATED", ["one"])
    assert (posted.turn.message_id, posted.message.author) == (posted.message.id, "olga")
    assert (turn.status, turn.is_over, turn.finish_reason) == ("completed", True, "stop")
    assert answer_of(client, session.id, turn.id) == "Forty-two, naïvely 🦊."


def test_the_streamed_text_is_the_stored_one(client: Any) -> None:
    session = client.create_session()
    posted = client.post_message(session.id, script(tokens=200))
    text, kinds = TurnText(), []
    for event in client.stream_turn(session.id, posted.turn.id):
        text.take(event)
        kinds.append(type(event).__name__)
    again = TurnText()
    for event in client.stream_turn(session.id, posted.turn.id):
        again.take(event)

    assert (kinds[0], kinds[-1]) == ("MessageStart", "TurnEnd")
    assert text.last == answer_of(client, session.id, posted.turn.id)
    assert again.by_message == text.by_message


def test_a_stream_goes_on_after_a_number(client: Any) -> None:
    session = client.create_session()
    posted = client.post_message(session.id, script(tokens=50))
    whole = list(client.stream_turn(session.id, posted.turn.id))
    middle = whole[len(whole) // 2]

    rest = list(client.stream_turn(session.id, posted.turn.id, after=middle.seq))

    assert [event.seq for event in rest] == [event.seq for event in whole if event.seq > middle.seq]
    assert isinstance(rest[-1], TurnEnd)
    # After the very end, the service says that it is over, and nothing else.
    beyond = client.stream_turn(session.id, posted.turn.id, after=whole[-1].seq)
    assert all(isinstance(event, TurnEnd) for event in beyond)


def test_a_session_is_followed_live(client: Any) -> None:
    session = client.create_session()
    before = client.read_events(session.id)
    events: Iterator[Any] = iter(client.stream_events(session.id, after=before.last_seq))
    posted = client.post_message(session.id, script(content="Live."))
    heard: list[Event] = []
    for event in events:
        heard.append(event)
        if event.type == "stream.ended":
            break
    getattr(events, "close", lambda: None)()

    assert [event.seq for event in heard] == list(range(before.last_seq + 1, before.last_seq + 1 + len(heard)))
    assert heard[-1].turn_id == posted.turn.id
    assert not before.gap


def test_a_call_waits_for_approval_and_runs_as_approved(client: Any, make: Make, sink: Sink) -> None:
    path = f"/notes/{id(make)}"
    session = client.create_session()
    posted = client.post_message(
        session.id, script(tool_calls=[[post_call(sink.url(path), '{"n": 1}')]], content="Sent.")
    )
    waiting = client.wait_for_turn(session.id, posted.turn.id, timeout_s=60)
    [approval] = client.list_session_approvals(session.id, status="pending").items
    assert (waiting.status, approval.tool, sink.at(path)) == ("waiting_approval", "http_request", [])

    changed = {**approval.arguments, "body": '{"n": 2}'}
    decided = client.decide_approval(approval.id, "approve", arguments=changed, comment="less")
    again = client.decide_approval(approval.id, "approve", arguments=changed, comment="less")
    over = client.wait_for_turn(session.id, posted.turn.id, past_approvals=True, timeout_s=60)

    assert (decided.status, decided.decided_by, decided.comment) == ("approved", "olga", "less")
    assert (again.status, over.status) == ("approved", "completed")
    assert [request.json() for request in sink.at(path)] == [{"n": 2}]
    assert client.get_approval(approval.id).votes[0].by == "olga"
    with pytest.raises(Conflict) as refused:
        client.decide_approval(approval.id, "reject")
    assert (refused.value.code, refused.value.status) == ("CONFLICT", 409)


def test_an_approval_is_heard_of_and_listed_for_its_approver(make: Make, sink: Sink) -> None:
    owner, approver, stranger = make("nora"), make("fay;approver"), make("mallory")
    session = owner.create_session()
    posted = owner.post_message(session.id, script(tool_calls=[[post_call(sink.url("/none"))]]))
    pending = next(event for event in owner.stream_events(session.id) if event.type == "tool_call.pending")

    assert pending.approval.id in [item.id for item in approver.every(approver.list_approvals, status="pending")]
    assert pending.approval.id in [item.id for item in owner.list_approvals(scope="own_turns").items]
    assert pending.approval.id not in [item.id for item in owner.list_approvals().items]
    context = approver.get_approval_context(pending.approval.id)
    assert (context.shows, context.asked_by, context.may_open_session) == ("full", "nora", False)
    assert context.question is not None
    assert "#script" in context.question.text
    with pytest.raises(NotFound) as hidden:
        stranger.get_approval(pending.approval.id)
    approver.decide_approval(pending.approval.id, "reject", comment="no")
    assert owner.wait_for_turn(session.id, posted.turn.id, past_approvals=True, timeout_s=60).status == "completed"
    assert hidden.value.correlation_id
    assert hidden.value.detail


def test_tool_calls_are_streamed(client: Any) -> None:
    session = client.create_session()
    posted = client.post_message(session.id, script(tool_calls=[[call("calculate", expression="6*7")]]))
    [called] = [event for event in client.stream_turn(session.id, posted.turn.id) if isinstance(event, ToolCallFrame)]

    assert (called.name, called.arguments) == ("calculate", {"expression": "6*7"})


def test_one_field_is_changed_and_the_others_stay(client: Any) -> None:
    session = client.create_session(name="Before", config={"max_steps": 3, "approval_mode": "manual"}, tags=["kept"])
    changed = client.update_session(session.id, config={"temperature": 0.5})
    unnamed = client.update_session(session.id, name=None, if_match=changed.etag)

    assert (changed.config.max_steps, changed.config.approval_mode, changed.config.temperature) == (3, "manual", 0.5)
    assert (unnamed.name, unnamed.tags) == (None, ["kept"])
    with pytest.raises(Conflict):
        client.update_session(session.id, name="Late", if_match=changed.etag)


def test_a_message_posted_twice_under_one_key_is_one(client: Any) -> None:
    session = client.create_session(idempotency_key=None)
    first = client.post_message(session.id, "Once.", idempotency_key="k")
    second = client.post_message(session.id, "Once.", idempotency_key="k")

    assert first.turn.id == second.turn.id
    with pytest.raises(Conflict):
        client.post_message(session.id, "Twice.", idempotency_key="k")


def test_a_session_ends_and_is_erased(client: Any) -> None:
    session = client.create_session(name="Short")
    assert client.activate_session(session.id).status == "ACTIVE"
    assert client.suspend_session(session.id).status == "SUSPENDED"
    assert client.resume_session(session.id).status == "ACTIVE"
    assert client.end_session(session.id).status == "ENDED"
    assert client.get_session(session.id).name == "Short"
    with pytest.raises(InvalidRequest) as ended:
        client.post_message(session.id, "Too late")
    assert ended.value.code == "INVALID_STATE"
    client.delete_session(session.id)
    with pytest.raises(NotFound) as gone:
        client.get_session(session.id)
    assert (gone.value.code, gone.value.status) == ("SESSION_NOT_FOUND", 404)


def test_lists_are_read_page_by_page(client: Any) -> None:
    tag = f"t{id(client)}"
    made = {client.create_session(name=f"Number {number}", tags=[tag]).id for number in range(5)}

    page = client.list_sessions(tag=tag, limit=2)
    assert (len(page.items), page.next_cursor is None) == (2, False)
    assert {session.id for session in client.every(client.list_sessions, tag=tag, limit=2)} == made


def test_files_go_up_and_come_down(client: Any, tmp_path: Path) -> None:
    session = client.create_session(name="Städte")
    (tmp_path / "cities.csv").write_text("city,inhabitants\nParis,2100000\n")
    added = client.add_attachment(session.id, tmp_path / "cities.csv")
    raw = client.add_attachment(session.id, b"\x00\x01", name="raw bytes.bin")
    posted = client.post_message(session.id, script(content="Seen."), attachment_ids=[added.id])

    assert (added.kind, added.name, "Paris" in (added.text or "")) == ("csv", "cities.csv", True)
    assert [item.name for item in client.list_attachments(session.id).items] == ["cities.csv", "raw bytes.bin"]
    assert posted.message.attachments[0].id == added.id
    content = client.get_attachment_content(raw.id)
    assert (content.content, content.name) == (b"\x00\x01", "raw bytes.bin")
    client.wait_for_turn(session.id, posted.turn.id, timeout_s=60)
    exported = client.export_session(session.id, "md")
    assert "Seen." in exported.content.decode()
    assert exported.media_type.startswith("text/markdown")
    assert exported.name.endswith(".md")
    assert client.export_session(session.id, "pdf").content[:4] == b"%PDF"


def test_a_turn_is_cancelled_and_answered_again(client: Any) -> None:
    session = client.create_session()
    posted = client.post_message(session.id, script(tokens=2000, token_ms=30))
    client.cancel_turn(session.id, posted.turn.id)
    assert client.wait_for_turn(session.id, posted.turn.id, timeout_s=60).status == "cancelled"

    asked = client.post_message(session.id, script(content="An answer."))
    client.wait_for_turn(session.id, asked.turn.id, timeout_s=60)
    again = client.regenerate_message(session.id, asked.message.id)
    assert client.wait_for_turn(session.id, again.turn.id, timeout_s=60).status == "completed"
    edited = client.edit_message(session.id, asked.message.id, script(content="Another answer."))
    assert client.wait_for_turn(session.id, edited.turn.id, timeout_s=60).status == "completed"
    assert (edited.message.author, edited.turn.branch) == (asked.message.author, again.turn.branch + 1)
    assert {turn.id for turn in client.list_turns(session.id).items} >= {posted.turn.id, asked.turn.id, again.turn.id}
    assert client.get_message(session.id, asked.message.id).role == "user"


def test_waiting_has_an_end(client: Any) -> None:
    session = client.create_session()
    posted = client.post_message(session.id, script(tokens=2000, token_ms=30))
    with pytest.raises(TurnStillOpen) as open_still:
        client.wait_for_turn(session.id, posted.turn.id, timeout_s=0.2)
    assert open_still.value.turn_id == posted.turn.id
    client.cancel_turn(session.id, posted.turn.id)


def test_a_refused_field_is_named(client: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.create_session(config={"max_steps": 0})
    assert refused.value.code == "VALIDATION_ERROR"
    assert any("max_steps" in error["field"] for error in refused.value.errors)
    assert "max_steps" in str(refused.value)


def test_a_stream_of_somebody_elses_session_is_refused(make: Make) -> None:
    session = make("nora").create_session()
    with pytest.raises(NotFound):
        next(iter(make("mallory").stream_events(session.id)))


def test_the_answer_of_ids_with_odd_characters_is_not_found(client: Any) -> None:
    for odd in ("../health", "a/b?c=d", "ü"):
        with pytest.raises(NotFound):
            client.get_session(odd)


def test_the_text_so_far_can_be_shown_while_it_comes(client: Any) -> None:
    session = client.create_session()
    posted = client.post_message(session.id, script(tokens=30))
    text = ""
    for event in client.stream_turn(session.id, posted.turn.id):
        if isinstance(event, MessageStart):
            text = ""  # another attempt replaces the one before
        elif isinstance(event, ContentDelta):
            text += event.text

    assert text == answer_of(client, session.id, posted.turn.id)


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        return {
            name.replace("aclose", "close"): list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert public(Client) == public(AsyncClient)
    assert set(parley_client.__all__) <= set(dir(parley_client))
    assert Retries(tries=1).tries == 1
