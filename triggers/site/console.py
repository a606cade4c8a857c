"""The web console's built files: one page and its assets, at the site's root.

Invariant: no request waits for a thread. A file is read when it is asked for first, and served from memory. Only files
that the build wrote are served. Their Content-Security-Policy forbids inline scripts and styles, and anything loaded
from elsewhere. An asset's name contains its hash, so its content never changes.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import azure.durable_functions as df
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from shared.composition.services import services
from shared.settings import Settings
from triggers.http.headers import https_only
from triggers.http.html import content_security_policy

bp = df.Blueprint()

DIST = Path(__file__).parents[2] / "web" / "dist"
"""The build output of `web/`; part of the deployed package."""

MANIFEST_TYPE = "application/manifest+json"
_ASSET = re.compile(r"[A-Za-z0-9_-]{1,80}-[A-Za-z0-9_-]{8}\.(?P<kind>js|css|svg|png|webmanifest)")
_MEDIA_TYPES = {
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webmanifest": MANIFEST_TYPE,
}
_META = '<meta name="parley-{name}" content="{value}"'
COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PAGE_CACHE = "no-cache"
ASSET_CACHE = "public, max-age=31536000, immutable"


class _File(NamedTuple):
    plain: bytes
    gzipped: bytes | None


# An empty route would become the function's name; an optional segment of length 0 matches the site's root.
@bp.route(route="{root:maxlength(0)?}", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
async def console(req: Request) -> Response:
    """The page. It contains no user data; everything it shows comes from the API."""
    settings = services().settings
    headers = COMMON_HEADERS | https_only(settings.public_base_url)
    headers |= {"Content-Security-Policy": page_policy(settings), "Cache-Control": PAGE_CACHE}
    found = _page()
    if found is None:
        return _not_built(headers)
    page = marked(found, auth=settings.auth_mode)
    etag = f'"{sha256(page).hexdigest()[:32]}"'
    headers["ETag"] = etag
    if req.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


@bp.route(route="assets/{name}", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
async def console_asset(req: Request) -> Response:
    """A script, a style sheet, an icon or the manifest of the page."""
    name = str(req.path_params.get("name", ""))
    match = _ASSET.fullmatch(name)
    found = _asset(name) if match is not None else None
    common = COMMON_HEADERS | https_only(services().settings.public_base_url)
    if match is None or found is None:
        return Response(status_code=404, headers=common | {"Cache-Control": "no-store"})
    headers = common | {"Cache-Control": ASSET_CACHE, "Vary": "Accept-Encoding"}
    body = found.plain
    # The platform does not compress responses, so the build did.
    if found.gzipped is not None and "gzip" in req.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = found.gzipped
    return Response(body, media_type=_MEDIA_TYPES[match["kind"]], headers=headers)


def page_policy(settings: Settings) -> str:
    """The page's Content-Security-Policy when this app serves it: it may connect to this API and to SignalR."""
    endpoint = settings.signalr_service_uri
    for part in (settings.signalr_connection_string or "").split(";"):
        key, _, value = part.partition("=")
        if key.strip().lower() == "endpoint":
            endpoint = value.strip()
    return console_policy("'self'", *(signalr_origins(endpoint) if endpoint else []))


def console_policy(*origins: str) -> str:
    """A policy under which the page loads only its own files and connects only to these origins."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self';"
        " manifest-src 'self';"
        f" connect-src {' '.join(origins)}; form-action 'none'; frame-ancestors 'none'; base-uri 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )


def signalr_origins(endpoint: str) -> list[str]:
    """The origins that negotiation sends the client to, for HTTP and for WebSockets."""
    url = urlsplit(endpoint)
    secure = "s" if url.scheme == "https" else ""
    return [f"http{secure}://{url.netloc}", f"ws{secure}://{url.netloc}"]


def marked(page: bytes, **facts: str) -> bytes:
    """The built page with its settings: `auth` (how callers sign in) and `api` (the API's origin, if another)."""
    for name, value in facts.items():
        start = _META.format(name=name, value="").removesuffix('"').encode()
        head, found, rest = page.partition(start)
        if not found:
            raise ValueError(f"the page has no place for {name!r}")
        page = head + start + escape(value).encode() + rest[rest.index(b'"') :]
    return page


@cache
def _cached(path: Path) -> _File:
    compressed = path.with_name(f"{path.name}.gz")
    return _File(path.read_bytes(), compressed.read_bytes() if compressed.exists() else None)


def _asset(name: str) -> _File | None:
    try:
        return _cached(DIST / "assets" / name)
    except FileNotFoundError:
        return None


def _page() -> bytes | None:
    """The page as the newest build wrote it."""
    path = DIST / "index.html"
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return _page_of(path, about.st_mtime_ns, about.st_ino)


@lru_cache(1)
def _page_of(path: Path, _changed_ns: int, _inode: int) -> bytes:
    return path.read_bytes()


_STYLE = """:root{color-scheme:light dark}
body{font:16px/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}"""


def _not_built(headers: dict[str, str]) -> Response:
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Parley</title><style>{_STYLE}</style></head>
<body><main><h1>The console is not built</h1>
<p>Everything else works. The API is described at <a href="/api/docs">/api/docs</a>.</p>
<p>The console's packages come from the npm registry. Run <code>./dev up</code> again when the registry can be reached,
or set <code>NPM_CONFIG_REGISTRY</code> to another one. The line <code>console</code> in its output shows the error.</p>
</main></body>
</html>"""
    return Response(
        page,
        status_code=503,
        media_type="text/html; charset=utf-8",
        headers=headers | {"Content-Security-Policy": content_security_policy(_STYLE), "Retry-After": "30"},
    )
