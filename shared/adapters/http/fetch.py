"""The guarded HTTP client of tools. Implements `HttpFetcher`.

Its connections go to checked addresses only (`connecting.py`). Every redirect is checked.

Invariant: memory, time and bytes of one fetch are bounded, whatever the other side sends.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import zlib
from collections.abc import Iterable, Mapping

import aiohttp
from yarl import URL

from shared import tracing
from shared.adapters.http.connecting import Lookup, SystemLookup, guarded_session
from shared.adapters.http.guard import AllowList
from shared.errors import ErrorCode, ToolFailed, ToolRefused
from shared.sessions.tools.builtin.http_rules import check_headers, parse_url
from shared.sessions.tools.services import FetchRequest, FetchResponse

MAX_REDIRECTS = 5
MAX_BODY_BYTES = 2 * 1024 * 1024
"""Upper bound of a request's `max_body_bytes`."""
USER_AGENT = "Parley-tools/1"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_SHOWN_HEADERS = (
    "content-type content-length content-language content-location location date etag last-modified"
    " retry-after cache-control link allow x-request-id"
)
_SHOWN = frozenset(_SHOWN_HEADERS.split(" "))
_MAX_SHOWN_CHARS = 2_100  # above MAX_URL_CHARS: a cut Location is too long to be followed
# After a redirect to another origin only these are sent: others may hold secrets for the first origin.
_KEPT_ACROSS_ORIGINS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_TEXT_TYPE = re.compile(
    r"text/.*|application/(?:.*[+/])?(?:json|xml|javascript|yaml|graphql|x-www-form-urlencoded|toml|sql|x-ndjson|ndjson)|image/svg\+xml|"
)
_CHARSETS = re.compile(
    r"ascii|utf-(?:8|8-sig|16|16-le|16-be|32)|iso8859-\d+|cp\d+|mac-\w+|koi8-\w|shift_jis|euc_\w+|gb\w+|big5\w*|tis-620"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SLACK_BYTES = 64 * 1024


class GuardedHttpFetcher:
    """Implements `HttpFetcher`. Holds nothing open between fetches."""

    def __init__(self, allow: Iterable[str], *, lookup: Lookup | None = None) -> None:
        """allow: `host[:port]` entries. Raises ConfigError, which names the invalid entry. lookup: None:
        the operating system's.
        """
        self._allow = AllowList(allow, setting="TOOLS_HTTP_ALLOW")
        self._lookup = lookup or SystemLookup()

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Make the request. Raises ToolRefused (policy), ToolFailed (no answer, TOOL_TIMEOUT)."""
        try:
            url = parse_url(request.url)
            check_headers(request.headers)
        except ValueError as exc:
            raise ToolRefused(f"Refused: {exc}.") from None
        host = url.host
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._follow(request, url)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise ToolFailed(f"No connection to {host} could be made.") from exc
        except TimeoutError as exc:
            raise ToolFailed(
                f"{host} did not finish answering within {request.timeout_s:g} seconds."
                + _may_have_happened(request.method),
                code=ErrorCode.TOOL_TIMEOUT,
            ) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise ToolFailed(
                f"The exchange with {host} broke off or was not valid HTTP." + _may_have_happened(request.method),
            ) from exc

    async def _follow(self, request: FetchRequest, url: URL) -> FetchResponse:
        visited: list[str] = []
        headers = dict(request.headers)
        while True:
            response = await self._once(request, url, headers, tuple(visited))
            target = self._redirect_target(request.method, url, response)
            if target is None:
                return response
            if len(visited) == MAX_REDIRECTS:
                raise ToolFailed(f"More than {MAX_REDIRECTS} redirects.")
            if target.origin() != url.origin():
                headers = {name: value for name, value in headers.items() if name.lower() in _KEPT_ACROSS_ORIGINS}
            visited.append(str(url))
            url = target

    def _redirect_target(self, method: str, url: URL, response: FetchResponse) -> URL | None:
        """The URL of a redirect to follow, or None when this response is the result.

        A redirect that is not followed is returned unchanged, so that the model can see its Location.
        """
        location = response.headers.get("location")
        if response.status not in _REDIRECTS or not location:
            return None
        try:
            target = parse_url(str(url.join(URL(location))))
            self._allow.check_url(target)
        except (ValueError, ToolRefused):
            return None
        if url.scheme == "https" and target.scheme == "http":
            return None
        if method in _SAFE_METHODS:
            return target
        # A request with side effects was approved for one origin and one method.
        return target if response.status in (307, 308) and target.origin() == url.origin() else None

    async def _once(
        self, request: FetchRequest, url: URL, headers: Mapping[str, str], visited: tuple[str, ...]
    ) -> FetchResponse:
        sent = {
            **{"Accept": "*/*", "User-Agent": USER_AGENT},
            **tracing.outgoing(),
            **headers,
            "Accept-Encoding": "gzip, deflate",
        }
        if request.idempotency_key is not None:
            sent["Idempotency-Key"] = request.idempotency_key
        async with (
            guarded_session(self._allow, url, self._lookup) as session,
            session.request(request.method, url, headers=sent, data=request.body, allow_redirects=False) as answer,
        ):
            return await _read(answer, request, visited)


async def _read(answer: aiohttp.ClientResponse, request: FetchRequest, visited: tuple[str, ...]) -> FetchResponse:
    body, is_truncated = await _read_body(answer, min(request.max_body_bytes, MAX_BODY_BYTES))
    content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_binary = body is None or not _TEXT_TYPE.fullmatch(content_type) or _looks_binary(body, answer.charset)
    return FetchResponse(
        status=answer.status,
        url=str(answer.url),
        headers={
            name.lower(): value[:_MAX_SHOWN_CHARS] for name, value in answer.headers.items() if name.lower() in _SHOWN
        },
        text="" if body is None or is_binary else _text(body, answer.charset),
        body_bytes=len(body or b""),
        is_truncated=is_truncated,
        is_binary=is_binary,
        redirects=visited,
    )


async def _read_body(answer: aiohttp.ClientResponse, limit: int) -> tuple[bytes | None, bool]:
    """The decompressed body up to `limit` bytes, and whether it was longer. None: an unsupported encoding."""
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        return None, True
    inflate = None if encoding in ("identity", "") else zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    body = bytearray()
    received = 0
    async for chunk in answer.content.iter_any():
        received += len(chunk)
        # Bounds the output too, since a small input can inflate to a large one.
        body += chunk if inflate is None else _inflated(inflate, chunk, limit + 1 - len(body))
        if len(body) > limit or received > limit + _SLACK_BYTES:
            return bytes(body[:limit]), True
    return bytes(body), False


def _inflated(inflate: zlib._Decompress, chunk: bytes, most: int) -> bytes:
    try:
        return inflate.decompress(chunk, most)
    except zlib.error as exc:
        raise ValueError("the compressed body is damaged") from exc


def _looks_binary(body: bytes, charset: str | None) -> bool:
    """Whether the body has NUL bytes, whatever its content type, unless its charset uses them."""
    return b"\0" in body[:1024] and not (charset or "").lower().startswith(("utf-16", "utf-32", "utf16", "utf32"))


def _text(body: bytes, charset: str | None) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        name = "utf-8"
    if not _CHARSETS.fullmatch(name):  # some codecs are not text encodings, or decompress
        name = "utf-8"
    text = body.decode(name, "replace").removeprefix("\ufeff")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _may_have_happened(method: str) -> str:
    return "" if method in _SAFE_METHODS else " The request may have been carried out anyway."
