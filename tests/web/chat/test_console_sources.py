"""What stands in `web/`: types that are the API's, a lock without addresses, a client that its own tests prove."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest

from devhost.servers.node import node_environment, node_home
from devtools import console

FIRST_LOAD_BYTES = 150_000
LATER_BYTES = {"highlight": 60_000, "formulas": 80_000}
"""Parts that a page loads when a message first needs them."""


def _node(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(node_home() / "bin" / "node"), *arguments],
        cwd=console.WEB,
        env=node_environment() | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def packages() -> None:
    asyncio.run(console.install())


def test_the_lock_holds_no_address() -> None:
    lock = json.loads((console.WEB / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert [name for name, package in lock["packages"].items() if name and "integrity" not in package] == []


def test_every_direct_package_is_pinned() -> None:
    manifest = json.loads((console.WEB / "package.json").read_text())
    versions = manifest["dependencies"] | manifest["devDependencies"]
    assert {name: version for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)} == {}


async def test_wire_types_are_those_of_the_openapi_document() -> None:
    written = console.WIRE.read_text("utf-8")
    assert written == await console.wire_types(), "run: .venv/bin/python -m devtools.console types"


@pytest.mark.usefixtures("packages")
def test_the_sources_are_strictly_typed() -> None:
    done = _node("node_modules/typescript/bin/tsc", "--noEmit")
    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("packages")
def test_the_streaming_client_passes_its_own_tests() -> None:
    done = _node("node_modules/vitest/vitest.mjs", "run", "--reporter=dot")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_streaming_client_knows_nothing_of_the_user_interface() -> None:
    imports = {
        (path.name, name)
        for path in (console.WEB / "src" / "client").glob("*.ts")
        for name in re.findall(r"from '([^']+)'", path.read_text())
    }
    outside = {(file, name) for file, name in imports if not name.startswith("./")}
    assert outside == {("live.ts", "@microsoft/signalr")}


def test_no_source_writes_html() -> None:
    words = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|\beval\(")
    guilty = [
        path.name
        for path in (console.WEB / "src").rglob("*.ts*")
        if path != console.WIRE and words.search(path.read_text())
    ]
    assert guilty == []


def test_json_is_read_and_written_by_one_module_which_rounds_no_number() -> None:
    words = re.compile(r"JSON\.(parse|stringify)|\.json\(\)")
    users = {path.name for path in (console.WEB / "src").rglob("*.ts*") if words.search(path.read_text())}
    assert users - {"votes.ts"} == {"json.ts"}, "votes are only compared, not shown"


@pytest.mark.usefixtures("built")
def test_the_first_load_is_small() -> None:
    page = (console.DIST / "index.html").read_text()
    first = [console.DIST / name.lstrip("/") for name in re.findall(r'(?:src|href)="(/assets/[^"]+\.js)"', page)]
    assert first
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in first) < FIRST_LOAD_BYTES


@pytest.mark.usefixtures("built")
def test_code_and_formulas_are_set_by_parts_that_are_loaded_later() -> None:
    page = (console.DIST / "index.html").read_text()
    for name, most in LATER_BYTES.items():
        [part] = (console.DIST / "assets").glob(f"{name}-*.js")
        assert part.name not in page
        assert len(gzip.compress(part.read_bytes(), 9)) < most


@pytest.mark.usefixtures("built")
def test_a_build_of_unchanged_sources_is_left_alone() -> None:
    before = (console.DIST / "index.html").stat().st_mtime_ns
    told: list[str] = []
    asyncio.run(console.build(lambda _name, text: told.append(text)))
    assert told == []
    assert (console.DIST / "index.html").stat().st_mtime_ns == before


def test_a_failed_build_says_why_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = tmp_path / "web"
    web.mkdir()
    # A lock that does not fit its manifest, which npm refuses without asking anybody.
    (web / "package.json").write_text('{"name": "x", "version": "1.0.0", "dependencies": {"y": "1.0.0"}}')
    (web / "package-lock.json").write_text('{"name": "x", "lockfileVersion": 3, "packages": {"": {"name": "x"}}}')
    for name, path in {"WEB": web, "DIST": web / "dist", "_STAMP": web / "dist" / ".stamp"}.items():
        monkeypatch.setattr(console, name, path)
    monkeypatch.setattr(console, "_MODULES", web / "node_modules")
    monkeypatch.setattr(console, "_MODULES_STAMP", web / "node_modules" / ".stamp")
    for _ in range(2):
        with pytest.raises(console.ConsoleNotBuilt, match="npm"):
            asyncio.run(console.build())
