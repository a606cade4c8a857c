"""The names under which a host may be called: everything else, however it is spelled, reaches nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devhost.asgi.hosts import HOSTS_SETTING, AllowedHosts, name_of
from devhost.testing import PROJECT_DIR, HostProcess, host_process

LISTED = AllowedHosts.parse("chat.example, Other.Example:7071,")

_APPS = PROJECT_DIR / "tests" / "devhost" / "apps"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:7071", "LOCALHOST:7071", "localhost.", "localhost.:7071", "app.localhost:1"),
        *("127.0.0.1", "127.0.0.1:7071", "127.1.2.3", "[::1]", "[::1]:7071", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
        *("chat.example", "CHAT.example.:443", "other.example", "other.example:1"),
    ],
)
def test_loopback_and_listed_names_are_answered(host: str) -> None:
    assert LISTED.refusal([(b"host", host.encode())]) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7071", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost"),
        *("chat.example.evil", "xchat.example", "www.chat.example", "0.0.0.0:7071", "169.254.169.254", "10.0.0.1"),
        *("[::]", "[fe80::1]", "[::ffff:10.0.0.1]", "2130706433", "0x7f.1", "127.1", "127.0.0.1.:7071x.example"),
    ],
)
def test_other_names_are_refused_and_the_refusal_names_the_setting(host: str) -> None:
    refusal = LISTED.refusal([(b"host", host.encode())])
    assert refusal is not None
    assert refusal.status in {400, 421}
    assert refusal.status == 400 or HOSTS_SETTING in refusal.detail


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", ":7071", ".", "..", "localhost:7071:1", "localhost:70710000", "localhost:x", "-", "localhost/x"),
        *(
            "user@localhost",
            "evil.example@localhost",
            "localhost@evil.example",
            "localhost#@evil.example",
            "local host",
        ),
        *(
            "localhost,evil.example",
            "localhost;evil.example",
            "http://localhost",
            "localhost\\.evil.example",
            "localhost?",
        ),
        *("[::1", "::1", "[::1]x", "[localhost]:x", "localhost\x00", "ſocalhost", "localhost\u3002"),
    ],
)
def test_what_is_no_name_is_refused(host: str) -> None:
    assert name_of(host.encode()) is None
    refusal = LISTED.refusal([(b"host", host.encode())])
    assert refusal is not None
    assert refusal.status == 400


@pytest.mark.parametrize("values", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_a_request_has_exactly_one_host(values: list[str]) -> None:
    refusal = LISTED.refusal([(b"host", value.encode()) for value in values])
    assert refusal is not None
    assert refusal.status == 400


@pytest.mark.parametrize("header", [b"x-forwarded-host", b"x-original-host"])
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"", None),
        (b"localhost:1", None),
        (b"chat.example", None),
        (b"abc.tunnels.example", 421),
        (b"localhost, abc.tunnels.example", 421),
        (b"evil@localhost", 400),
    ],
)
def test_a_tunnels_name_is_on_the_list_too(header: bytes, value: bytes, status: int | None) -> None:
    """A tunnel that rewrites `Host` says in these what its caller asked for."""
    refusal = LISTED.refusal([(b"host", b"localhost:7071"), (header, value)])
    assert (refusal and refusal.status) == status


@pytest.mark.parametrize(
    ("origin", "is_own"),
    [
        ("http://localhost:5173", True),
        ("http://[::1]:1", True),
        ("https://chat.example", True),
        ("https://chat.example.evil.test", False),
        ("http://localhost@evil.test", False),
        ("http://evil.test/localhost", False),
        ("file://localhost", False),
        ("localhost", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins_are_read_as_strictly(origin: str, is_own: bool) -> None:
    assert LISTED.allows_origin(origin.encode()) is is_own


@pytest.mark.parametrize(
    "text", ["*", "https://chat.example", "chat.example/x", "a b", "*.example", "čokoláda.example"]
)
def test_the_setting_takes_names_only(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name such as"):
        AllowedHosts.parse(text)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """With every kind of surface: HTTP functions, SignalR."""
    data = tmp_path_factory.mktemp("hosts") / "data"
    listed = {HOSTS_SETTING: "chat.example"}
    with host_process(_APPS / "signalr_chat", data, ["--dev-identity"], environment=listed) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/api/negotiate"),
        ("GET", "/api/no_such"),
        ("GET", "/admin/pages"),
        ("POST", "/admin/functions/tick"),
        ("GET", "/runtime/webhooks/durabletask/instances"),
        ("GET", "/durabletask/instances"),
        ("POST", "/client/negotiate?hub=chat&negotiateVersion=1"),
        ("OPTIONS", "/client/negotiate?hub=chat"),
        ("GET", "/client/?hub=chat&id=x"),
        ("DELETE", "/client/?hub=chat&id=x"),
        ("POST", "/api/v1/hubs/chat"),
        ("POST", "/api/hubs/chat/:send?api-version=2022-06-01"),
    ],
)
def test_no_surface_answers_to_a_rebound_name(host: HostProcess, method: str, path: str) -> None:
    headers = {"host": "evil.example", **host.admin_headers}
    answer = httpx.request(method, f"{host.base_url}{path}", headers=headers, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json")
    assert HOSTS_SETTING in answer.json()["detail"]
    assert "evil.example" in answer.json()["detail"]
    tunnelled = httpx.request(
        method, f"{host.base_url}{path}", headers={"x-forwarded-host": "evil.example"}, trust_env=False
    )
    assert tunnelled.status_code == 421


_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: chat.example\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: [::1]:7071\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\nHost: LOCALHOST.\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET http://localhost/ HTTP/1.0\r\n\r\n", 200),
        ("GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET http://evil.example/ HTTP/1.0\r\n\r\n", 421),
        ("GET http://localhost@evil.example/ HTTP/1.0\r\n\r\n", 400),
        (f"GET /client/?hub=chat HTTP/1.1\r\nHost: evil.example\r\n{_UPGRADE}\r\n", 421),
        (f"GET /client/?hub=chat HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n{_UPGRADE}\r\n", 400),
        (f"GET /client/?hub=chat HTTP/1.1\r\nHost: localhost\r\n{_UPGRADE}\r\n", 401),
    ],
)
def test_the_name_counts_as_it_is_sent(host: HostProcess, request_text: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", host.port), timeout=30) as raw:
        raw.sendall(request_text.encode())
        answer = raw.recv(65536)
    assert int(answer.split(b" ")[1]) == status, answer


def test_a_setting_that_is_no_name_ends_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=rf"app setting {HOSTS_SETTING}: '\*' is not a host name"),
        host_process(_APPS / "http_classic", tmp_path / "data", environment={HOSTS_SETTING: "*"}),
    ):
        pass
