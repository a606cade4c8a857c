"""Who may use `/admin`: those who have the master key, as in Azure.

Programs send it in the header `x-functions-key`, or as `code` in the query. A person opens a page with `?code=` once:
the answer is a cookie and the same address without the key, which therefore stays in no history and no `Referer`.

Invariant: fail closed. Another site can neither read `/admin` nor change anything through a browser that has the
cookie: the cookie is not sent from there, and a change is refused when the browser says that another origin asks for
it.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope, Send

from devhost.asgi.replies import Refusal, send_response
from devhost.http.classic import header_values, query_values
from devhost.pages.pages import PATH as PAGES_PATH
from devhost.settings.keys import Keys

_READING = frozenset({"GET", "HEAD"})
_CROSS_ORIGIN = Refusal(
    403,
    "This request was sent by a page of another origin. Only pages of this host, and programs, may change anything.",
)
_NO_KEY = Refusal(
    401,
    "This needs the host's master key: open the address of the pages that ./dev up printed (it ends with ?code=...), or"
    " send the key in the header x-functions-key. It is in keys.json in the host's data folder.",
)


class AdminAccess:
    """Decides about requests to `/admin` of a host on `port`."""

    def __init__(self, keys: Keys, port: int) -> None:
        self._keys = keys
        # Cookies of a machine are common to all its ports: another host there must not overwrite this one's, and a
        # program there that is sent the cookie must not learn the key.
        self._cookie_name = f"devhost-admin-{port}"
        self._cookie = hmac.digest(keys.master.encode(), b"devhost admin cookie", hashlib.sha256).hex()

    async def admits(self, scope: Scope, send: Send) -> bool:
        """Whether the request may go on. Otherwise it has been answered."""
        headers = header_values(scope)
        if scope["method"] not in _READING and _is_cross_origin(headers):
            await _CROSS_ORIGIN.answer(scope, send)
            return False
        key = headers.get("x-functions-key")
        code = query_values(scope).get("code")
        if key is None and code and scope["method"] == "GET" and _is_page(scope) and self._keys.is_master(code):
            await self._welcome(scope, send)
            return False
        if self._keys.is_master(key or code) or self._has_cookie(headers.get("cookie", "")):
            return True
        await _NO_KEY.answer(scope, send)
        return False

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """Exchange the key in the address for the cookie."""
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        left = urlencode([(name, value) for name, value in query if name.lower() != "code"])
        # The raw path begins with the path of the pages, so it names no other host.
        path = bytes(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        cookie = f"{self._cookie_name}={self._cookie}; Path=/admin; HttpOnly; SameSite=Strict"
        headers = [
            (b"location", path + (f"?{left}" if left else "").encode()),
            (b"set-cookie", cookie.encode()),
            (b"cache-control", b"no-store"),
            (b"referrer-policy", b"no-referrer"),
        ]
        await send_response(send, 303, headers)

    def _has_cookie(self, cookies: str) -> bool:
        found = (part.strip().partition("=") for part in cookies.split(";"))
        given = [value for name, _, value in found if name == self._cookie_name]
        return any(hmac.compare_digest(value.encode(), self._cookie.encode()) for value in given)


def _is_page(scope: Scope) -> bool:
    path = str(scope["path"]).lower()
    return path == PAGES_PATH or path.startswith(f"{PAGES_PATH}/")


def _is_cross_origin(headers: dict[str, str]) -> bool:
    """Whether a browser sent a request for a page of another origin; other programs send neither header."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower()
