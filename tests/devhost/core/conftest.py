from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from devhost.testing import HostProcess, host_process

APPS = Path(__file__).resolve().parent.parent / "apps"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real environment wins over local.settings.json, so a developer's own must not leak in."""
    for name in list(os.environ):
        if name.lower().startswith(("azurefunctionsjobhost__", "azurewebjobs", "website_")) or name == "GREETING":
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with host_process(APPS / "http_classic", tmp_path_factory.mktemp("classic") / "data") as host:
        yield host


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with host_process(APPS / "http_streaming", tmp_path_factory.mktemp("streaming") / "data") as host:
        yield host


@pytest.fixture
def get(classic: HostProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=classic.base_url, timeout=30) as client:
        yield client


@pytest.fixture
def make_app(tmp_path: Path) -> Callable[..., Path]:
    """An app folder with the given files; host.json has only its version unless given."""

    def make(**files: str) -> Path:
        app = tmp_path / "app"
        app.mkdir(exist_ok=True)
        (app / "host.json").write_text('{"version": "2.0"}')
        for name, text in files.items():
            (app / name.replace("__", ".")).write_text(text)
        return app

    return make
