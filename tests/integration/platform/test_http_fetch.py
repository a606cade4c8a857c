"""The guarded fetcher against real servers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import socket
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shared.adapters.http.connecting import SystemLookup
from shared.adapters.http.fetch import GuardedHttpFetcher
from shared.errors import ErrorCode, ToolFailed, ToolRefused
from shared.sessions.tools.services import FetchRequest, FetchResponse

pytestmark = pytest.mark.integration

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A local server that answers by path and remembers what reached it."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.port = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(await request.read())
        return await self.handlers[request.path](request)

    def on(self, path: str, body: bytes | str = b"", status: int = 200, **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        named = {"Content-Type": "text/plain", **{name.replace("_", "-"): value for name, value in headers.items()}}

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(body=data, status=status, headers=named)

        self.handlers[path] = answer

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def started(host: str = "127.0.0.1") -> tuple[Site, web.AppRunner]:
    site = Site()
    app = web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", site.serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    site.port = runner.addresses[0][1]
    return site, runner


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site, runner = await started()
    yield site
    await runner.cleanup()


@pytest.fixture
async def other() -> AsyncIterator[Site]:
    site, runner = await started()
    yield site
    await runner.cleanup()


def fetcher(*sites: Site, entries: tuple[str, ...] = ()) -> GuardedHttpFetcher:
    return GuardedHttpFetcher([*(f"127.0.0.1:{site.port}" for site in sites), *entries])


async def get(site: Site, path: str, *others: Site, **request: Any) -> FetchResponse:
    return await fetcher(site, *others).fetch(FetchRequest("GET", f"{site.base}{path}", **request))


async def test_a_post_arrives_with_key_headers_and_body(site: Site) -> None:
    site.on("/notes", '{"ok": true}', 201, Content_Type="application/json", ETag='"1"', Set_Cookie="a=b", Server="x")
    response = await fetcher(site).fetch(
        FetchRequest("POST", f"{site.base}/notes?q=ž", {"X-Team": "red"}, b'{"a": 1}', idempotency_key="call-1")
    )
    assert (response.status, response.text) == (201, '{"ok": true}')
    assert response.headers["etag"] == '"1"'
    assert not {"set-cookie", "server"} & response.headers.keys()
    assert site.bodies == [b'{"a": 1}']
    assert site.headers[0]["idempotency-key"] == "call-1"
    assert site.headers[0]["x-team"] == "red"
    assert site.headers[0]["host"] == f"127.0.0.1:{site.port}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_is_sent_as_it_is(site: Site, method: str) -> None:
    site.on("/x", "body")
    response = await fetcher(site).fetch(FetchRequest(method, f"{site.base}/x"))
    assert site.seen == [(method, "/x")]
    assert response.text == ("" if method == "HEAD" else "body")


async def test_a_host_or_port_off_the_list_is_never_contacted(site: Site, other: Site) -> None:
    site.on("/", "secret")
    for url in (f"{site.base}/", f"http://localhost:{site.port}/", f"http://[::ffff:127.0.0.1]:{site.port}/"):
        with pytest.raises(ToolRefused, match="allow-list"):
            await fetcher(other).fetch(FetchRequest("GET", url))
    assert site.seen == []


async def test_localhost_is_reached_when_it_is_listed(site: Site) -> None:
    site.on("/", "hi")
    response = await fetcher(entries=(f"localhost:{site.port}",)).fetch(
        FetchRequest("GET", f"http://localhost:{site.port}/")
    )
    assert response.text == "hi"


async def test_forbidden_headers_and_malformed_urls_are_refused_here_too(site: Site) -> None:
    for request in (
        FetchRequest("GET", f"{site.base}/", {"Host": "other"}),
        FetchRequest("GET", f"http://me:pw@127.0.0.1:{site.port}/"),
        FetchRequest("GET", "gopher://127.0.0.1/"),
    ):
        with pytest.raises(ToolRefused):
            await fetcher(site).fetch(request)
    assert site.seen == []


# Names and addresses. --------------------------------------------------------------------------


class Resolver:
    """Answers one list of addresses after the other, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fe80::1%1"],
        ["93.184.215.14", "127.0.0.1"],  # one bad address spoils the name
    ],
)
async def test_a_public_name_that_resolves_to_another_kind_of_address_is_refused(
    site: Site, addresses: list[str]
) -> None:
    lookup = Resolver(addresses)
    guarded = GuardedHttpFetcher([f"example.com:{site.port}"], lookup=lookup)
    with pytest.raises(ToolRefused, match="not public"):
        await guarded.fetch(FetchRequest("GET", f"http://example.com:{site.port}/"))
    assert site.seen == []
    assert lookup.asked == 1


async def test_a_name_that_changes_its_mind_is_checked_again(site: Site) -> None:
    site.on("/", "hi")
    lookup = Resolver(["127.0.0.1"], ["10.0.0.1"])
    guarded = GuardedHttpFetcher([f"demo.localhost:{site.port}"], lookup=lookup)
    request = FetchRequest("GET", f"http://demo.localhost:{site.port}/")
    assert (await guarded.fetch(request)).text == "hi"
    with pytest.raises(ToolRefused, match="not public"):
        await guarded.fetch(request)


async def test_the_connection_goes_to_the_address_that_was_checked(site: Site) -> None:
    # `demo.localhost` is in no hosts file: only our lookup can have led there, and it was asked once.
    site.on("/", "hi")
    lookup = Resolver(["127.0.0.1"], ["203.0.113.1"])
    guarded = GuardedHttpFetcher([f"demo.localhost:{site.port}"], lookup=lookup)
    response = await guarded.fetch(FetchRequest("GET", f"http://demo.localhost:{site.port}/"))
    assert response.text == "hi"
    assert site.headers[0]["host"] == f"demo.localhost:{site.port}"
    assert lookup.asked == 1


async def test_a_name_without_an_address_and_a_closed_port_are_plain_failures() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        return []

    async def broken(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    for lookup in (nothing, broken):
        with pytest.raises(ToolFailed, match=r"No connection to example\.com") as caught:
            await GuardedHttpFetcher(["example.com"], lookup=lookup).fetch(FetchRequest("GET", "http://example.com/"))
        assert not isinstance(caught.value, ToolRefused)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ToolFailed, match="No connection"):
            await fetcher(entries=(f"127.0.0.1:{port}",)).fetch(FetchRequest("GET", f"http://127.0.0.1:{port}/"))


async def test_the_systems_lookup_knows_localhost() -> None:
    assert set(await SystemLookup()("localhost", 80)) <= {"127.0.0.1", "::1"}


async def test_a_name_whose_lookup_hangs_holds_up_no_other_name() -> None:
    gate = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        if host.startswith("slow"):
            assert gate.wait(60)
        return ["203.0.113.1"]

    lookup = SystemLookup(resolve)
    slow = [asyncio.create_task(lookup("slow.example.com", 80)) for _ in range(40)]
    _, waiting = await asyncio.wait(slow, return_when=asyncio.FIRST_EXCEPTION)
    assert await lookup("quick.example.com", 80) == ["203.0.113.1"]
    assert waiting
    gate.set()
    ended = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(answer) for answer in ended} == {list, OSError}


# Redirects. ------------------------------------------------------------------------------------


async def test_get_follows_redirects_on_the_list_and_tells_the_way(site: Site, other: Site) -> None:
    site.on("/a", status=302, Location="/b")
    site.on("/b", status=307, Location=f"{other.base}/c#part")
    other.on("/c", "there")
    response = await get(site, "/a", other)
    assert (response.text, response.url) == ("there", f"{other.base}/c")
    assert response.redirects == (f"{site.base}/a", f"{site.base}/b")


async def test_headers_that_may_be_secret_stay_with_the_first_origin(site: Site, other: Site) -> None:
    site.on("/a", status=302, Location=f"{other.base}/c")
    other.on("/c", "there")
    await get(site, "/a", other, headers={"Authorization": "Bearer x", "X-Api-Key": "y", "Accept": "text/plain"})
    assert site.headers[0]["authorization"] == "Bearer x"
    assert not {"authorization", "x-api-key"} & other.headers[0].keys()
    assert other.headers[0]["accept"] == "text/plain"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/",
        "http://[::1]/",
        "file:///etc/passwd",
        "//evil.example/",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1:1/" + "x" * 4000,
        "",
    ],
)
async def test_a_redirect_off_the_list_is_returned_and_not_followed(site: Site, location: str) -> None:
    site.on("/a", "moved", status=302, Location=location)
    response = await get(site, "/a")
    assert response.status == 302
    assert site.seen == [("GET", "/a")]


async def test_an_unlisted_local_server_is_not_reached_through_a_redirect(site: Site, other: Site) -> None:
    other.on("/secret", "secret")
    site.on("/a", status=302, Location=f"{other.base}/secret")
    assert (await get(site, "/a")).status == 302
    assert other.seen == []


async def test_redirects_end_after_a_few_hops(site: Site) -> None:
    site.on("/a", status=302, Location="/a")
    with pytest.raises(ToolFailed, match="redirects"):
        await get(site, "/a")
    assert len(site.seen) == 6


@pytest.mark.parametrize(
    ("status", "same_origin", "is_followed"),
    [
        (301, True, False),
        (302, True, False),
        (303, True, False),
        (307, True, True),
        (308, True, True),
        (307, False, False),
        (308, False, False),
    ],
)
async def test_a_request_that_changes_things_follows_only_the_same_method_at_the_same_origin(
    site: Site, other: Site, status: int, same_origin: bool, is_followed: bool
) -> None:
    target = site if same_origin else other
    site.on("/a", status=status, Location=f"{target.base}/b")
    target.on("/b", "done")
    response = await fetcher(site, other).fetch(
        FetchRequest("POST", f"{site.base}/a", body=b"once", idempotency_key="k")
    )
    assert response.status == (200 if is_followed else status)
    assert site.seen == [("POST", "/a"), ("POST", "/b")][: 2 if is_followed else 1]
    assert all(body == b"once" for body in site.bodies)
    assert other.seen == []


# Sizes, encodings, times. ----------------------------------------------------------------------


async def test_a_body_past_the_limit_is_cut_and_the_rest_not_read(site: Site) -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 10_000)
                written += 10_000
        return response

    site.handlers["/"] = endless
    response = await get(site, "/", max_body_bytes=1_000)
    assert (response.text, response.is_truncated, response.body_bytes) == ("x" * 1_000, True, 1_000)


async def test_a_body_of_exactly_the_limit_is_whole(site: Site) -> None:
    site.on("/", "x" * 1_000)
    response = await get(site, "/", max_body_bytes=1_000)
    assert (response.is_truncated, response.body_bytes) == (False, 1_000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_bodies_are_read(site: Site, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    site.on("/", compress("příliš žluťoučký".encode()), Content_Encoding=encoding)
    assert (await get(site, "/")).text == "příliš žluťoučký"


async def test_a_decompression_bomb_is_cut_at_the_limit(site: Site) -> None:
    site.on("/", gzip.compress(b"0" * 100_000_000), Content_Encoding="gzip")
    tracemalloc.start()
    try:
        response = await get(site, "/", max_body_bytes=5_000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (response.text, response.is_truncated) == ("0" * 5_000, True)
    assert peak_bytes < 10_000_000  # a tenth of what it unpacks to would already be a bomb that works


async def test_compressed_bytes_that_come_to_nothing_are_bounded_too(site: Site) -> None:
    sent = 0

    async def empty_blocks(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Encoding": "deflate"})
        await response.prepare(request)
        packer = zlib.compressobj()
        await response.write(packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH))
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"\x00\x00\x00\xff\xff" * 2_000)  # empty stored blocks
                sent += 10_000
        return response

    site.handlers["/"] = empty_blocks
    assert (await get(site, "/")).is_truncated


async def test_a_damaged_compressed_body_and_an_unknown_encoding_do_not_pass_as_text(site: Site) -> None:
    site.on("/damaged", b"\x1f\x8b\x08nonsense", Content_Encoding="gzip")
    with pytest.raises(ToolFailed, match="broke off"):
        await get(site, "/damaged")
    site.on("/br", b"\x0b\x02\x80hello\x03", Content_Encoding="br")
    response = await get(site, "/br")
    assert (response.is_binary, response.text) == (True, "")


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("žluť".encode(), "text/plain; charset=utf-8", "žluť"),
        ("žluť".encode("cp1250"), "text/plain; charset=windows-1250", "žluť"),
        ("日本".encode("shift_jis"), "text/html; charset=Shift_JIS", "日本"),
        ("hé".encode("utf-16"), "text/plain; charset=utf-16", "hé"),
        (b"caf\xe9", "application/json", "caf\ufffd"),
        (b"abc", "text/plain; charset=nonsense", "abc"),
        (b"abc", "text/plain; charset=zlib", "abc"),  # a codec that is not about text
        (b"abc", "text/plain; charset=idna", "abc"),
        (b"\xef\xbb\xbfabc", "text/plain", "abc"),
        (b"a\x07b\x1b[31m", "text/plain", "a\ufffdb\ufffd[31m"),
        (b"<svg/>", "image/svg+xml", "<svg/>"),
        (b"{}", "application/problem+json", "{}"),
    ],
)
async def test_text_is_decoded_safely(site: Site, body: bytes, content_type: str, text: str) -> None:
    site.on("/", body, Content_Type=content_type)
    response = await get(site, "/")
    assert (response.text, response.is_binary) == (text, False)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"\x89PNG", "image/png"), (b"PK", "application/zip"), (b"a\0b", "text/plain")],
)
async def test_binary_content_is_named_and_left_out(site: Site, body: bytes, content_type: str) -> None:
    site.on("/", body, Content_Type=content_type)
    response = await get(site, "/")
    assert (response.is_binary, response.text, response.body_bytes) == (True, "", len(body))


@pytest.mark.parametrize("when", ["before headers", "in the body"])
async def test_a_server_that_falls_silent_times_out(site: Site, when: str) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if when == "in the body":
            await response.prepare(request)
            await response.write(b"half")
        await asyncio.Event().wait()
        return response

    site.handlers["/"] = silent
    with pytest.raises(ToolFailed) as caught:
        await fetcher(site).fetch(FetchRequest("POST", f"{site.base}/", timeout_s=0.3))
    assert caught.value.code is ErrorCode.TOOL_TIMEOUT
    assert "may have been carried out" in caught.value.safe_message


async def test_a_lookup_that_hangs_times_out() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(ToolFailed) as caught:
        await GuardedHttpFetcher(["example.com"], lookup=hang).fetch(
            FetchRequest("GET", "http://example.com/", timeout_s=0.2)
        )
    assert caught.value.code is ErrorCode.TOOL_TIMEOUT


async def raw_server(answer: bytes) -> tuple[asyncio.Server, list[bytes]]:
    """A server that reads a request, sends bytes as they are and hangs up."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0), requests


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5_000)) + b"\r\n",
    ],
    ids=["hang up", "no http", "short body", "huge header", "many headers"],
)
async def test_a_broken_answer_fails_and_the_request_is_never_sent_twice(method: str, answer: bytes) -> None:
    server, requests = await raw_server(answer)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(ToolFailed) as caught:
            await fetcher(entries=(f"127.0.0.1:{port}",)).fetch(
                FetchRequest(method, f"http://127.0.0.1:{port}/", body=b"x" if method == "POST" else None)
            )
    finally:
        server.close()
        await server.wait_closed()
    assert len(requests) == 1
    assert caught.value.code is ErrorCode.TOOL_EXECUTION_FAILED
    assert ("may have been carried out" in caught.value.safe_message) == (method != "GET")


async def test_a_certificate_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    reached = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            reached.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ToolFailed, match="No connection"):
        await fetcher(entries=(f"localhost:{port}",)).fetch(FetchRequest("GET", f"https://localhost:{port}/"))
    server.close()
    assert not reached.is_set()


async def test_no_proxy_from_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    site.on("/", "direct")
    assert (await get(site, "/")).text == "direct"


async def test_failures_tell_the_host_and_nothing_of_the_inside(site: Site) -> None:
    with pytest.raises(ToolFailed) as caught:
        await fetcher(entries=("127.0.0.1:1",)).fetch(FetchRequest("GET", "http://127.0.0.1:1/x?token=abc"))
    assert re.fullmatch(r"No connection to 127\.0\.0\.1 could be made\.", caught.value.safe_message)
