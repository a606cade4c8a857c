"""`@parley/client` as it is published: what the tarball holds, its types, its size, and its use under Node.js."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from devhost.servers.node import node_environment, node_home
from devtools import console
from devtools.clients import javascript, versions
from tests.e2e.support.processes import ROOT, AppHost, Sink

HERE = Path(__file__).parent
MODULES = console.WEB / "node_modules"
BUDGET = 9_000
"""Bytes of the whole package in a page, minified and compressed, without SignalR."""
BUDGET_WITH_SIGNALR = 24_000


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "some/where"}
    return javascript.build(tmp_path_factory.mktemp("built"), repository)


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of somebody else that has installed the tarball; what that depends on is the console's copy."""
    folder = tmp_path_factory.mktemp("project")
    packages = folder / "node_modules"
    (packages / "@parley").mkdir(parents=True)
    with tarfile.open(tarball) as archive:
        archive.extractall(packages / "@parley", filter="data")
    (packages / "@parley" / "package").rename(packages / "@parley" / "client")
    (packages / "@microsoft").symlink_to(MODULES / "@microsoft")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    for name in ("story.mjs", "consumer.ts"):
        (folder / name).write_bytes((HERE / name).read_bytes())
    return folder


def node(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in node_environment().items() if "proxy" not in name.lower()}
    command = [str(node_home() / "bin" / "node"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.e2e
def test_a_program_sends_streams_and_approves(project: Path, parley: AppHost, sink: Sink) -> None:
    done = node("story.mjs", parley.base_url, sink.url("/from-node"), cwd=project)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "isStored": True,
        "sawItGrow": True,
        "tool": "http_request",
        "status": "completed",
        "decided": "approved",
        "refused": [True, 404, "SESSION_NOT_FOUND", "string"],
    }
    assert [request.body for request in sink.at("/from-node")] == [b'{"n": 1.0}']


@pytest.mark.e2e
def test_the_readmes_example_runs(project: Path, parley: AppHost) -> None:
    readme = (javascript.SOURCE / "README.md").read_text("utf-8")
    code = readme.partition("```js\n")[2].partition("```")[0]
    assert "http://localhost:7071" in code
    end = """
    const isDone = ({ status }) => status === 'completed'
    feed.subscribe(({ phase, conversation }) => {
      if (phase === 'ready' && Object.values(conversation.turns).some(isDone)) process.exit(0)
    })
    """
    (project / "readme.mjs").write_text(code.replace("http://localhost:7071", parley.base_url) + end)
    done = node("readme.mjs", cwd=project)

    assert done.returncode == 0, done.stderr
    assert "17 * 23" in done.stdout


def test_a_strict_program_compiles_against_its_types(project: Path) -> None:
    options = {
        **dict.fromkeys(("strict", "noEmit", "exactOptionalPropertyTypes", "noUncheckedIndexedAccess"), True),
        **{"module": "nodenext", "target": "es2022", "lib": ["es2023", "dom", "dom.iterable"], "types": []},
        # The package's own declarations are checked, too.
        "skipLibCheck": False,
    }
    (project / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["consumer.ts"]}))
    done = node(MODULES / "typescript" / "bin" / "tsc", "-p", ".", cwd=project)

    assert (done.returncode, done.stdout) == (0, "")


def test_it_costs_a_page_no_more_than_its_budget(project: Path) -> None:
    entry = project / "node_modules" / "@parley" / "client" / "dist" / "index.js"
    done = node(HERE / "size.mjs", entry, MODULES / "vite" / "dist" / "node" / "index.js", cwd=project)

    assert done.returncode == 0, done.stderr
    measured: dict[str, int] = json.loads(done.stdout)
    assert 1_000 < measured["alone"] <= BUDGET
    assert measured["alone"] < measured["all"] <= BUDGET_WITH_SIGNALR


def test_the_tarball_says_where_it_is_from_and_holds_no_more_than_it_says(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        about: dict[str, Any] = json.load(archive.extractfile("package/package.json"))  # type: ignore[arg-type]
    sources = {path.stem for path in (console.WEB / "src" / "client").glob("*.ts")}
    compiled = {f"dist/{name}{end}" for name in sources for end in (".js", ".d.ts")}
    assert names == {"package.json", "README.md", "LICENSE"} | compiled
    assert (about["name"], about["version"]) == ("@parley/client", versions.version())
    assert about["repository"] == {
        "type": "git",
        "url": "git+https://github.com/some/where.git",
        "directory": "clients/javascript",
    }
    assert (about["type"], about["sideEffects"]) == ("module", False)
    assert about["publishConfig"] == {"access": "public", "provenance": True}
    # Nothing of an installation runs a program.
    assert "scripts" not in about
    for target in about["exports"]["."].values():
        assert target.removeprefix("./") in names


def test_it_depends_on_what_the_console_uses(tarball: Path) -> None:
    used = json.loads((console.WEB / "package.json").read_text("utf-8"))["dependencies"]["@microsoft/signalr"]
    ranges = versions.manifest()["dependencies"]
    assert ranges == {"@microsoft/signalr": f"^{used.partition('.')[0]}.0.0"}
    with tarfile.open(tarball) as archive:
        texts = [archive.extractfile(name) for name in archive.getnames() if name.endswith(".js")]
        imported = {line for text in texts if text for line in text.read().decode().splitlines() if " from '" in line}
    outside = {line.rpartition(" from ")[2].strip("';") for line in imported if " from './" not in line}
    assert outside == {"@microsoft/signalr"}


def test_without_a_repository_none_is_claimed() -> None:
    assert javascript._repository({}) == javascript._repository({"GITHUB_REPOSITORY": "a b; c"}) == {}
    assert os.path.samefile(javascript.ROOT, ROOT)
