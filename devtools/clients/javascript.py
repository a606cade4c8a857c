"""`@parley/client`: the console's own sources, compiled module by module, so that a bundler takes what a page uses.

Nothing is copied into the source tree: the package is put together in a folder of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devhost.servers.node import node_environment, node_home
from devtools import console
from devtools.clients.versions import CLIENTS, PACKAGES, ROOT, NotPublishable, manifest, version

SOURCE = CLIENTS / "javascript"
_OF_A_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def build(target: Path = PACKAGES / "javascript", environment: Mapping[str, str] = os.environ) -> Path:
    """The tarball, beside the folder `package` that it was made of. Raises NotPublishable.

    environment: GITHUB_SERVER_URL and GITHUB_REPOSITORY say where the sources are, which provenance is checked against.
    """
    version()
    folder = target / "package"
    shutil.rmtree(target, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        asyncio.run(console.install())
    except console.ConsoleNotBuilt as reason:
        raise NotPublishable(str(reason)) from None
    _compile(folder / "dist")
    for name in ("README.md", "LICENSE"):
        shutil.copy((SOURCE if name == "README.md" else ROOT) / name, folder)
    published = {**manifest(), **_repository(environment)}
    (folder / "package.json").write_text(json.dumps(published, indent=2) + "\n", "utf-8")
    _run([*_npm(), "pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", str(target)], cwd=folder)
    [tarball] = target.glob("*.tgz")
    return tarball


def upload(tarball: Path) -> list[str]:
    """The command that publishes. npm takes a package with provenance only from a pipeline that it trusts."""
    return [*_npm(), "publish", "--ignore-scripts", str(tarball)]


def _compile(target: Path) -> None:
    compiler = console.WEB / "node_modules" / "typescript" / "bin" / "tsc"
    _run([str(node_home() / "bin" / "node"), str(compiler), "-p", str(SOURCE), "--outDir", str(target)], cwd=SOURCE)


def _repository(environment: Mapping[str, str]) -> dict[str, object]:
    name = environment.get("GITHUB_REPOSITORY", "")
    if _OF_A_REPOSITORY.fullmatch(name) is None:
        return {}
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    return {"repository": {"type": "git", "url": f"git+{server}/{name}.git", "directory": "clients/javascript"}}


def _npm() -> list[str]:
    home = node_home()
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, env=node_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), (lines or ["no reason"])[-1])
        raise NotPublishable(f"{Path(command[1]).stem}: {reason}")
