"""The console's files over HTTP: under a strict policy, cached as their names allow, and nothing else of the disk."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct

import httpx
import pytest

from devtools import console, icons
from tests.e2e.support.processes import AppHost

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("built")]


@pytest.fixture
def page(parley: AppHost) -> httpx.Response:
    return httpx.get(parley.base_url + "/", trust_env=False)


def _asset(page: httpx.Response) -> str:
    [path] = re.findall(r'src="(/assets/[^"]+\.js)"', page.text)
    return str(path)


def test_the_site_root_is_the_console(page: httpx.Response) -> None:
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<meta name="parley-auth" content="dev"' in page.text


def test_the_page_is_under_a_policy_that_allows_no_inline_code_and_no_foreign_source(page: httpx.Response) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["img-src"] == "'self' blob:"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    # The only places a script may talk to: this app and the SignalR endpoint (here the host's own).
    assert re.fullmatch(r"'self' http://127\.0\.0\.1:\d+ ws://127\.0\.0\.1:\d+", policy["connect-src"])


def test_every_answer_of_the_console_says_how_it_may_be_used(parley: AppHost, page: httpx.Response) -> None:
    asset = httpx.get(parley.base_url + _asset(page), trust_env=False)
    missing = httpx.get(parley.base_url + "/assets/index-00000000.js", trust_env=False)
    for response in (page, asset, missing):
        told = {name: response.headers[name] for name in ("x-content-type-options", "referrer-policy")}
        assert told == {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}, response.url
        assert response.headers["cross-origin-opener-policy"] == "same-origin"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_itself_is_asked_for_again_and_costs_nothing_when_unchanged(
    parley: AppHost, page: httpx.Response
) -> None:
    assert page.headers["cache-control"] == "no-cache"
    again = httpx.get(parley.base_url + "/", headers={"if-none-match": page.headers["etag"]}, trust_env=False)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == page.headers["content-security-policy"]


def test_assets_are_compressed_and_kept_for_good(parley: AppHost, page: httpx.Response) -> None:
    url = parley.base_url + _asset(page)
    plain = httpx.get(url, headers={"accept-encoding": "identity"}, trust_env=False)
    packed = httpx.get(url, headers={"accept-encoding": "gzip"}, trust_env=False)
    assert plain.headers["content-type"].startswith("text/javascript")
    assert plain.headers["cache-control"] == packed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.content == plain.content  # httpx has unpacked it
    assert int(packed.headers["content-length"]) < len(plain.content)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/..%2Findex.html",
        "/assets/.stamp",
        "/assets/index.html",
        "/assets/index-00000000.js",
        "/assets/index-00000000.js.gz",
        "/assets/..%2f..%2f..%2fhost.json",
        "/assets/%00-00000000.js",
        "/index.html",
        "/sessions",
    ],
)
def test_nothing_else_is_served(parley: AppHost, path: str) -> None:
    assert httpx.get(parley.base_url + path, trust_env=False).status_code == 404


def test_the_gz_beside_an_asset_is_that_asset() -> None:
    packed = list((console.DIST / "assets").glob("*.gz"))
    assert len(packed) > 5, "the page, and each room that is loaded later"
    for path in packed:
        assert gzip.decompress(path.read_bytes()) == path.with_suffix("").read_bytes(), path


def test_it_can_be_installed_and_no_worker_of_it_keeps_anything(parley: AppHost, page: httpx.Response) -> None:
    [path] = re.findall(r'rel="manifest" href="(/assets/[^"]+)"', page.text)
    manifest = httpx.get(parley.base_url + path, trust_env=False)
    assert manifest.headers["content-type"] == "application/manifest+json"
    assert "manifest-src 'self'" in page.headers["content-security-policy"]
    about = manifest.json()
    assert (about["start_url"], about["scope"], about["display"]) == ("/", "/", "standalone")
    touch = re.findall(r'rel="apple-touch-icon" href="(/assets/[^"]+)"', page.text)
    sizes = []
    for source in [*(icon["src"] for icon in about["icons"]), *touch]:
        icon = httpx.get(parley.base_url + source, trust_env=False)
        assert (icon.headers["content-type"], icon.content[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")
        sizes.append(struct.unpack(">II", icon.content[16:24]))
    assert sizes == [(192, 192), (512, 512), (512, 512), (180, 180)]
    assert [icon["purpose"] for icon in about["icons"]] == ["any", "any", "maskable"]
    assert page.text.count('<meta name="theme-color"') == 2
    for script in (console.DIST / "assets").glob("*.js"):
        assert "serviceWorker" not in script.read_text(encoding="utf-8"), script


def test_the_icons_are_made_of_the_logo_as_it_is() -> None:
    made_from = icons.STAMP.read_text(encoding="ascii").strip()
    assert made_from == hashlib.sha256(icons.SOURCE.read_bytes()).hexdigest(), "run: python -m devtools.icons"


def test_sizes_of_type_are_of_one_scale() -> None:
    styles = [sheet.read_text(encoding="utf-8") for sheet in (console.WEB / "src" / "ui").rglob("*.css")]
    rules = [line for style in styles for line in style.splitlines() if not line.startswith("math")]
    sizes = set(re.findall(r"font-size: ([^;]+);", "\n".join(rules)))
    above = {"1rem", "1.1rem", "1.35rem", "1.5rem"}  # of 15 px: text, titles, figures
    code = {"max(var(--code), 0.87em)"}
    assert sizes <= above | code | {"var(--tiny)", "var(--small)", "var(--body)", "var(--code)", "inherit", "12px"}


def test_the_first_load_stays_small(page: httpx.Response) -> None:
    # Whatever the page names itself; parts that are loaded later are not in it.
    named = re.findall(r'(?:src|href)="(/assets/[^"]+\.js)"', page.text)
    size = sum((console.DIST / f"{path.lstrip('/')}.gz").stat().st_size for path in named)
    assert 0 < size < 150_000


def test_the_api_stays_where_it_was(parley: AppHost) -> None:
    for path in ("/api/v1/health/live", "/api/v1/openapi.json", "/api/docs"):
        assert httpx.get(parley.base_url + path, trust_env=False).status_code == 200
