"""Where webhooks of users may lead, and what a receiver can do to whoever sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from shared.adapters.http.posting import GuardedWebhooks
from shared.errors import ConfigError
from shared.sessions.channels.delivering import Answered

pytestmark = pytest.mark.integration

SECRET = "whsec_" + "c2VjcmV0" * 4

type Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receivers:
    """Servers on this machine that answer as told; `asked` counts their connections."""

    def __init__(self) -> None:
        self.asked = 0
        self._servers: list[asyncio.Server] = []

    async def start(self, answer: bytes, *, then: float = 0) -> int:
        """then: for how long the connection stays open after the answer."""

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await asyncio.sleep(then)
            writer.close()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        for server in self._servers:
            server.close()


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    running = Receivers()
    yield running
    running.close()


async def _send(webhooks: GuardedWebhooks, url: str) -> Answered:
    return await webhooks.send(url, "id-1", b"{}", [SECRET], now=datetime.now(UTC))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/metadata/instance",
        "https://168.63.129.16/",
        "http://example.com/",
        "https://example.com:8443/",
        "https://user@example.com/",
        "file:///etc/passwd",
    ],
)
def test_private_addresses_other_ports_and_plain_http_are_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError):
        GuardedWebhooks(["public"]).check(url)


def test_public_hosts_are_allowed_unless_the_operator_names_a_few() -> None:
    GuardedWebhooks(["public"]).check("https://example.com/hooks?x=1")
    GuardedWebhooks(["public", "10.0.0.1:8080"]).check("http://10.0.0.1:8080/")
    few = GuardedWebhooks(["hooks.example.com"])
    few.check("https://hooks.example.com/")
    for url in ("https://example.com/", "https://hooks.example.com.evil.example/"):
        with pytest.raises(ValueError, match="WEBHOOK_HOSTS"):
            few.check(url)
    with pytest.raises(ValueError, match="WEBHOOK_HOSTS"):
        GuardedWebhooks(["none"]).check("https://example.com/")
    with pytest.raises(ConfigError, match="WEBHOOK_HOSTS"):
        GuardedWebhooks(["public", "https://example.com"])


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "fd00::1"])
async def test_a_public_name_that_leads_to_a_private_address_is_not_contacted(
    receivers: Receivers, address: str
) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.215.14", address]

    told = await _send(GuardedWebhooks(["public"], lookup=lookup), "https://example.com/")
    assert (told.answer_code, "not public" in (told.error or "")) == (None, True)


async def test_this_machine_is_not_public() -> None:
    told = await _send(GuardedWebhooks(["public"]), "https://localhost/")
    assert "not public" in (told.error or "")


async def test_a_redirect_is_not_followed(receivers: Receivers) -> None:
    port = await receivers.start(b"HTTP/1.1 307 Go\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")
    told = await _send(GuardedWebhooks([f"127.0.0.1:{port}"]), f"http://127.0.0.1:{port}/")
    assert (told.answer_code, "redirect" in (told.error or ""), receivers.asked) == (307, True, 1)


async def test_of_an_answer_only_its_status_is_read(receivers: Receivers) -> None:
    endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    port = await receivers.start(endless, then=60)
    async with asyncio.timeout(5):
        told = await _send(GuardedWebhooks([f"127.0.0.1:{port}"]), f"http://127.0.0.1:{port}/")
    assert (told.answer_code, told.error) == (200, None)


async def test_headers_without_end_and_what_is_no_http_are_errors(receivers: Receivers) -> None:
    for answer in (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000, b"SSH-2.0-OpenSSH_9.6\r\n"):
        port = await receivers.start(answer)
        told = await _send(GuardedWebhooks([f"127.0.0.1:{port}"]), f"http://127.0.0.1:{port}/")
        assert (told.answer_code, told.error is not None) == (None, True)


async def test_a_receiver_that_says_nothing_is_left_after_the_time_limit(receivers: Receivers) -> None:
    port = await receivers.start(b"HTTP/1.1 200", then=60)
    told = await _send(GuardedWebhooks([f"127.0.0.1:{port}"], timeout_s=0.2), f"http://127.0.0.1:{port}/")
    assert (told.answer_code, "within 0.2 seconds" in (told.error or "")) == (None, True)


async def test_nobody_listens(receivers: Receivers) -> None:
    port = await receivers.start(b"")
    receivers.close()
    told = await _send(GuardedWebhooks([f"127.0.0.1:{port}"]), f"http://127.0.0.1:{port}/")
    assert told.answer_code is None
    assert "127.0.0.1" not in (told.error or "")


@pytest.mark.parametrize(
    ("header", "asked_s"), [(b"120", 120.0), (b"0", 0.0), (b"-1", None), (b"soon", None), (b"9" * 40, None)]
)
async def test_how_long_the_receiver_asks_to_wait_is_read(
    receivers: Receivers, header: bytes, asked_s: float | None
) -> None:
    port = await receivers.start(b"HTTP/1.1 429 Slow\r\nretry-after: " + header + b"\r\ncontent-length: 0\r\n\r\n")
    told = await _send(GuardedWebhooks([f"127.0.0.1:{port}"]), f"http://127.0.0.1:{port}/")
    assert (told.answer_code, told.retry_after_s) == (429, asked_s)
