"""The console as a site of its own: the same page under the same headers, and its API elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devtools import console, static_site
from shared.settings import Settings
from triggers.site.console import COMMON_HEADERS, page_policy

API = "https://func-parley.azurewebsites.net"


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a build leaves, as far as it matters here."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "index-00000000.js").write_text("1")
    (folder / "assets" / "index-00000000.js.gz").write_text("2")
    page = (console.WEB / "index.html").read_text()
    (folder / "index.html").write_text(page)
    monkeypatch.setattr(console, "DIST", folder)
    return folder


def _config(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "staticwebapp.config.json").read_text()))


@pytest.mark.usefixtures("dist")
def test_headers_and_policy_are_those_of_the_app_but_for_where_scripts_may_connect(tmp_path: Path) -> None:
    service = "https://one.service.signalr.net"
    static_site.write(tmp_path / "site", api=API, signalr=service)

    headers = _config(tmp_path / "site")["globalHeaders"]
    own = page_policy(Settings.model_construct(signalr_service_uri=service, signalr_connection_string=None))
    assert headers == COMMON_HEADERS | {
        "Strict-Transport-Security": "max-age=63072000",
        "Cache-Control": "no-cache",
        "Content-Security-Policy": own.replace("connect-src 'self'", f"connect-src {API}"),
    }
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.usefixtures("dist")
def test_assets_are_kept_for_good_and_nothing_else_has_a_route(tmp_path: Path) -> None:
    static_site.write(tmp_path / "site", api=API)

    config = _config(tmp_path / "site")
    assert config.keys() == {"routes", "globalHeaders", "mimeTypes"}
    assert config["mimeTypes"] == {".webmanifest": "application/manifest+json"}
    # Addresses are behind the #: what is not a file is not there, and no page stands in for it.
    assert config["routes"] == [
        {"route": "/assets/*", "headers": {"Cache-Control": "public, max-age=31536000, immutable"}}
    ]
    written = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.*")}
    assert written == {"index.html", "assets/index-00000000.js", "staticwebapp.config.json"}


@pytest.mark.usefixtures("dist")
def test_the_page_is_told_where_its_api_is_and_how_callers_sign_in(tmp_path: Path) -> None:
    static_site.write(tmp_path / "site", api=API, auth="dev")

    page = (tmp_path / "site" / "index.html").read_text()
    assert f'<meta name="parley-api" content="{API}" />' in page
    assert '<meta name="parley-auth" content="dev" />' in page


@pytest.mark.usefixtures("dist")
@pytest.mark.parametrize(
    "api", ["", "func.azurewebsites.net", "https://", f"{API}/api", "ftp://x", 'https://x"', "https://x;script-src"]
)
def test_an_api_that_is_no_origin_is_refused_and_nothing_written(tmp_path: Path, api: str) -> None:
    with pytest.raises(ValueError, match="must be an origin"):
        static_site.write(tmp_path / "site", api=api)

    assert not (tmp_path / "site").exists()


@pytest.mark.usefixtures("dist")
def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        static_site.write(tmp_path, api=API)
