"""`parley-client` at a server that does as it is told: refusals that pass, connections that break, lost events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from parley_client import (
    ApiError,
    AsyncClient,
    Client,
    ConnectionLost,
    ContentDelta,
    Gap,
    RateLimited,
    Retries,
    TurnEnd,
    TurnText,
    Unavailable,
)

from tests.e2e.support.processes import free_port

QUICK = Retries(tries=3, first_pause_s=0.01, longest_pause_s=1)
SESSION = {
    **{"id": "s", "name": None, "status": "CREATED", "agent_id": None, "tags": [], "metadata": {}},
    "config": {
        **{"max_steps": 8, "approval_mode": "policy", "approval_timeout_seconds": 1, "tool_timeout_seconds": 1},
        **{"max_context_tokens": 1, "concurrency": "reject"},
    },
    **dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z"),
}
PROBLEM = b'{"code": "DATABASE_ERROR", "detail": "Away.", "correlation_id": "c"}'


class Played(ThreadingHTTPServer):
    """Plays one answer after the other; the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Player)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        """Status, headers, body; status 0: the connection is closed without an answer."""
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        """Request line, headers with lower-case names, body."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: clients leave."""


class _Player(BaseHTTPRequestHandler):
    server: Played

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.heard.append((f"{self.command} {self.path}", headers, body))
        answers = self.server.answers
        status, told, content = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Played]:
    with Played() as played:
        thread = threading.Thread(target=played.serve_forever, args=(0.02,))
        thread.start()
        yield played
        played.shutdown()
        thread.join()


@pytest.fixture
def client(server: Played) -> Iterator[Client]:
    with httpx.Client(trust_env=False) as http:
        yield Client(server.url, retries=QUICK, http=http, headers={"x-dev-user": "olga"})


def made() -> tuple[int, dict[str, str], bytes]:
    return 201, {"content-type": "application/json", "etag": '"1"'}, json.dumps(SESSION).encode()


def stream(*events: tuple[int | None, str, str]) -> tuple[int, dict[str, str], bytes]:
    """An event stream that breaks off after these."""
    body = "".join(
        ("" if seq is None else f"id: {seq}\n") + f"event: {name}\ndata: {data}\n\n" for seq, name, data in events
    )
    return 200, {"content-type": "text/event-stream"}, b"retry: 10\n\n" + body.encode()


def test_a_post_is_sent_again_under_the_same_key_until_it_is_taken(server: Played, client: Client) -> None:
    server.answers = [(503, {"retry-after": "0"}, PROBLEM), (0, {}, b""), made()]
    session = client.create_session(name="One")

    keys = {headers["idempotency-key"] for _, headers, _ in server.heard}
    assert (session.id, session.etag, len(server.heard), len(keys)) == ("s", '"1"', 3, 1)
    assert {body for *_, body in server.heard} == {b'{"name": "One"}'}
    assert all(headers["user-agent"].startswith("parley-client/") for _, headers, _ in server.heard)
    client.create_session()
    assert server.heard[-1][1]["idempotency-key"] not in keys


def test_a_refusal_that_lasts_is_raised_with_what_it_says(server: Played, client: Client) -> None:
    server.answers = [(503, {"retry-after": "0"}, PROBLEM)]
    with pytest.raises(Unavailable) as refused:
        client.get_session("s")
    assert (refused.value.code, refused.value.correlation_id, len(server.heard)) == ("DATABASE_ERROR", "c", 3)

    server.answers = [(429, {"retry-after": "86400"}, b'{"code": "RATE_LIMITED", "detail": "Tomorrow."}')]
    with pytest.raises(RateLimited) as limited:
        client.post_message("s", "Hello")
    assert (limited.value.retry_after_s, len(server.heard)) == (86400, 4)


def test_what_may_have_been_done_is_not_done_again(server: Played, client: Client) -> None:
    server.answers = [(0, {}, b""), made()]
    with pytest.raises(ConnectionLost) as lost:
        client.add_attachment("s", b"x", name="a.txt")
    server.answers = [(0, {}, b""), made()]
    with pytest.raises(ConnectionLost):
        client.end_session("s")
    assert len(server.heard) == 2
    assert isinstance(lost.value.__cause__, httpx.TransportError)


def test_a_service_that_is_not_there_is_a_lost_connection() -> None:
    with httpx.Client(trust_env=False) as http, pytest.raises(ConnectionLost):
        Client(f"http://127.0.0.1:{free_port()}", retries=QUICK, http=http).create_session()


def test_a_token_is_asked_for_each_request_and_goes_nowhere_else(server: Played) -> None:
    tokens = iter(["one", "two"])
    server.answers = [made(), (302, {"location": "http://127.0.0.1:9/stolen"}, b"")]
    with httpx.Client(trust_env=False) as http:
        client = Client(server.url, token=lambda: next(tokens), http=http)
        client.create_session()
        with pytest.raises(Exception, match="302"):
            client.get_session("s")
    assert [headers["authorization"] for _, headers, _ in server.heard] == ["Bearer one", "Bearer two"]


def test_a_page_to_sign_in_is_no_answer(server: Played, client: Client) -> None:
    server.answers = [(200, {"content-type": "text/html"}, b"<html>Sign in</html>")]
    for ask in (
        lambda: client.get_session("s"),
        lambda: client.list_sessions(),
        lambda: next(client.stream_turn("s", "t")),
    ):
        with pytest.raises(ApiError) as refused:
            ask()
        assert refused.value.code == "HTTP"
        assert "text/html" in refused.value.detail


def test_a_stream_goes_on_where_it_broke(server: Played, client: Client) -> None:
    server.answers = [
        stream(
            (3, "message_start", '{"message_id": "m", "attempt": 1}'), (4, "content_delta", '{"index": 0, "text": "a"}')
        ),
        (0, {}, b""),
        (503, {"retry-after": "0"}, PROBLEM),
        stream(),
        stream((4, "content_delta", '{"index": 0, "text": "a"}'), (5, "content_delta", '{"index": 1, "text": "b"}')),
        stream((6, "end", '{"status": "completed", "usage": {}, "steps": 1}')),
    ]
    text = TurnText()
    events = list(client.stream_turn("s", "t"))
    for event in events:
        text.take(event)

    assert [event.seq for event in events] == [3, 4, 5, 6]
    assert (text.last, isinstance(events[-1], TurnEnd)) == ("ab", True)
    assert [headers.get("last-event-id") for _, headers, _ in server.heard] == [None, "4", "4", "4", "4", "5"]
    assert {headers["accept"] for _, headers, _ in server.heard} == {"text/event-stream"}


def test_a_turn_that_was_over_is_over(server: Played, client: Client) -> None:
    server.answers = [(204, {}, b"")]

    assert list(client.stream_turn("s", "t", after=6)) == []


def test_lost_events_are_told_as_a_gap_and_the_stream_goes_on(server: Played, client: Client) -> None:
    event = '{"seq": %d, "type": "stream.started", "session_id": "s", "at": "2026-01-01T00:00:00Z", "data": {}}'
    server.answers = [
        stream((None, "gap", '{"after": 2, "next": 8}')),
        stream((8, "stream.started", event % 8)),
        (404, {}, b'{"code": "SESSION_NOT_FOUND", "detail": "No."}'),
    ]
    heard = client.stream_events("s", after=2)

    assert [next(heard), next(heard).seq] == [Gap(after=2, next=8), 8]  # type: ignore[union-attr]
    with pytest.raises(Exception, match="SESSION_NOT_FOUND"):
        next(heard)
    assert [headers["last-event-id"] for _, headers, _ in server.heard] == ["2", "7", "8"]


async def test_leaving_a_stream_closes_its_connection(server: Played) -> None:
    delta = (1, "content_delta", '{"index": 0, "text": "a"}')
    server.answers = [stream(delta)]
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        AsyncClient(server.url, retries=QUICK, http=http) as client,
        client.stream_turn("s", "t") as events,
    ):
        first = await anext(events)
        pool = http._transport._pool  # type: ignore[attr-defined]
        assert isinstance(first, ContentDelta)
        assert len(pool.connections) == 1
        await events.aclose()
        assert [connection for connection in pool.connections if not connection.is_closed()] == []
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_many_calls_share_one_client(server: Played) -> None:
    server.answers = [made()]
    async with httpx.AsyncClient(trust_env=False) as http, AsyncClient(server.url, http=http) as client:
        sessions = await asyncio.gather(*(client.create_session() for _ in range(20)))

    assert {session.id for session in sessions} == {"s"}
    assert len({headers["idempotency-key"] for _, headers, _ in server.heard}) == 20
