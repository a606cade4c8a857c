from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator

import httpx
import pytest

from devhost.testing import PROJECT_DIR, HostProcess, host_process

APPS = PROJECT_DIR / "tests" / "devhost" / "apps"


@pytest.fixture
def client(streaming: HostProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=streaming.base_url, timeout=30) as client:
        yield client


def test_function_gets_the_starlette_request(client: httpx.Client) -> None:
    answer = client.post("/echo/B%20ob?a=1", content="hej", headers={"x-one": "1"})

    assert answer.status_code == 201
    seen = answer.json()
    assert (seen["route"], seen["query"], seen["body"]) == ({"name": "B ob"}, {"a": "1"}, "hej")
    assert seen["headers"]["x-one"] == "1"
    assert str(uuid.UUID(seen["headers"]["x-ms-invocation-id"])) == seen["headers"]["x-ms-invocation-id"]


def test_sync_function_runs_too(client: httpx.Client) -> None:
    assert client.get("/in_thread").json() == {"path": "/in_thread"}


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("dict", 200, '{"a":1}'),
        ("str", 200, '"text"'),
        ("list", 200, "[1,2]"),
        ("int", 200, "7"),
        ("bool", 200, "true"),
        ("none", 500, "Internal Server Error"),
    ],
)
def test_plain_values_are_encoded_as_fastapi_would(client: httpx.Client, kind: str, status: int, body: str) -> None:
    answer = client.get(f"/value/{kind}")

    assert (answer.status_code, answer.text) == (status, body)
    if status == 200:
        assert answer.headers["content-type"] == "application/json"


def test_body_arrives_in_pieces(client: httpx.Client) -> None:
    with client.stream("GET", "/pieces") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "first"
        # The second piece is produced only once this request has been served: the first was not held back.
        assert client.post("/open_gate").status_code == 204
        assert next(lines) == "second"


@pytest.mark.parametrize("path", ["endless", "silent"])
def test_caller_that_leaves_cancels_the_stream(client: httpx.Client, path: str) -> None:
    with client.stream("GET", f"/{path}") as answer:
        next(answer.iter_raw())

    for _ in range(2000):
        if path in client.get("/cancelled").json():
            return
    pytest.fail("the generator was not cancelled")


def test_request_body_streams_in(client: httpx.Client, streaming: HostProcess) -> None:
    with socket.create_connection(("127.0.0.1", streaming.port), timeout=30) as raw:
        raw.sendall(
            b"POST /count_body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        raw.sendall(b"5\r\nhello\r\n")
        raw.sendall(b"6\r\n world\r\n0\r\n\r\n")
        answer = b""
        while chunk := raw.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"total":11' in answer


def test_two_cookies_are_two_headers(client: httpx.Client) -> None:
    assert [cookie.partition(";")[0] for cookie in client.get("/cookies").headers.get_list("set-cookie")] == [
        "a=1",
        "b=2",
    ]


def test_unhandled_error_is_fastapis_500(client: httpx.Client, streaming: HostProcess) -> None:
    answer = client.get("/boom")

    assert (answer.status_code, answer.content) == (500, b"Internal Server Error")
    assert streaming.logs("boom failed")


def test_http_exception_of_fastapi_is_its_answer(client: httpx.Client) -> None:
    answer = client.get("/refuse")

    assert (answer.status_code, answer.json(), answer.headers["x-why"]) == (403, {"detail": "not you"}, "because")


def test_body_that_breaks_half_way_cuts_the_connection(client: httpx.Client, streaming: HostProcess) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/breaks")
    assert streaming.logs("the answer to /breaks broke off: LookupError: and no further")
    assert streaming.logs("breaks failed")


def test_method_and_route_are_one(client: httpx.Client) -> None:
    assert client.post("/ping").status_code == 404
    assert client.head("/ping").status_code == 404
    assert client.get("/PING").text == "pong"


def test_websocket_to_an_unknown_path_is_refused(streaming: HostProcess) -> None:
    with socket.create_connection(("127.0.0.1", streaming.port), timeout=30) as raw:
        raw.sendall(
            b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert raw.recv(64).split(b" ")[1] in {b"403", b"404"}


def test_a_response_header_that_is_not_ascii_is_500(client: httpx.Client) -> None:
    assert client.get("/not_ascii").status_code == 500


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /ping?" + b"q" * 8150, b"200"),
        (b"GET /ping?" + b"q" * 8200, b"414"),
        (b"GET /ping HTTP/1.1" + b"\r\nx: 1" * 98, b"200"),
        (b"GET /ping HTTP/1.1" + b"\r\nx: 1" * 99, b"431"),
        (b"GET /ping HTTP/1.1\r\nx: " + b"1" * 32_000, b"200"),
        (b"GET /ping HTTP/1.1\r\nx: " + b"1" * 32_800, b"431"),
        (b"GET ping", b"400"),
    ],
    ids=lambda value: value[:30].decode() if len(value) > 3 else value.decode(),
)
def test_limits_of_the_request_line_and_of_headers(streaming: HostProcess, head: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", streaming.port), timeout=30) as raw:
        line = b"" if b"HTTP/" in head else b" HTTP/1.1"
        raw.sendall(head + line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split(b" ")[1] == status


def test_overlapping_routes_are_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    with host_process(APPS / "http_routes", tmp_path_factory.mktemp("overlap") / "data") as host:
        assert host.logs("the routes p/{a} of f00 and p/x of f01 overlap: f00 answers what fits both")
