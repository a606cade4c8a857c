"""The web console: installs its packages, builds it, and writes its wire types from the OpenAPI document.

Invariants: a stamped `web/dist` was built from the current sources. A failed build leaves the former one in place
without a stamp, so the next run tries again. No package's install script is run.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from devhost.servers import ServerError
from devhost.servers.node import node_environment, node_home, npm_ci
from devhost.servers.process import run_to_end
from devhost.servers.supervise import Report, ignore_reports
from devtools.setup.places import ROOT

WEB = Path(ROOT, "web")
DIST = WEB / "dist"
_STAMP = DIST / ".stamp"
_MODULES = WEB / "node_modules"
_MODULES_STAMP = _MODULES / ".stamp"
_LOCKS = ("package.json", "package-lock.json")
_SOURCES = ("src", "index.html", "tsconfig.json", "vite.config.ts")


class ConsoleNotBuilt(Exception):
    """The console could not be built; the text is one line."""


async def build(report: Report = ignore_reports) -> None:
    """Build `web/dist` unless it is current. Raises ConsoleNotBuilt.

    Safe to run from several processes at once.
    """
    if _is_current():
        return
    async with _locked():
        if _is_current():  # another process has just done it
            return
        began = time.monotonic()
        await _install(report)
        report("console", "building")
        _STAMP.unlink(missing_ok=True)
        wanted = _wanted()
        await _node("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
        _STAMP.write_text(wanted, encoding="ascii")
        report("console", f"built ({time.monotonic() - began:.1f} s)")


async def install(report: Report = ignore_reports) -> None:
    """Install `web/node_modules` from the lock unless it is current. Raises ConsoleNotBuilt."""
    async with _locked():
        await _install(report)


async def _install(report: Report) -> None:
    wanted = _digest(_LOCKS)
    if _MODULES_STAMP.exists() and _MODULES_STAMP.read_text(encoding="ascii") == wanted:
        return
    report("console", "installing its packages (once)")
    try:
        await npm_ci(WEB)
    except ServerError as failure:
        raise ConsoleNotBuilt(str(failure)) from failure
    _MODULES_STAMP.write_text(wanted, encoding="ascii")


async def _node(*arguments: str) -> None:
    code, output = await run_to_end([_home() / "bin" / "node", *arguments], cwd=WEB, env=node_environment())
    if code != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), (lines or ["no message"])[-1])
        raise ConsoleNotBuilt(reason[:300])


def _home() -> Path:
    try:
        return node_home()
    except ServerError as error:
        raise ConsoleNotBuilt(str(error)) from None


def _is_current() -> bool:
    if not WEB.is_dir():
        return True  # a checkout without the console's sources has nothing to build
    try:
        return _STAMP.read_text(encoding="ascii") == _wanted() and (DIST / "index.html").exists()
    except FileNotFoundError:
        return False


def _wanted() -> str:
    return _digest((*_LOCKS, *_SOURCES))


def _digest(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in _files(names):
        digest.update(path.relative_to(WEB).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = WEB / name
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.exists():
            yield path


@asynccontextmanager
async def _locked() -> AsyncIterator[None]:
    folder = os.open(WEB, os.O_RDONLY)  # locking the folder itself leaves no lock file behind
    try:
        await asyncio.to_thread(fcntl.flock, folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


# The wire types. -------------------------------------------------------------------------------

WIRE = WEB / "src" / "client" / "wire.ts"


async def wire_types() -> str:
    """The TypeScript types of the OpenAPI document that this checkout serves."""
    await install()
    code, document = await run_to_end(
        [sys.executable, "-m", "devtools.console", "document"], cwd=Path(ROOT), env=dict(os.environ)
    )
    if code != 0:
        raise ConsoleNotBuilt(document.strip().splitlines()[-1])
    folder = _MODULES / ".cache" / "wire"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openapi.json").write_text(document, encoding="utf-8")
    target = folder / "wire.ts"
    await _node("node_modules/openapi-typescript/bin/cli.js", str(folder / "openapi.json"), "--output", str(target))
    return target.read_text(encoding="utf-8")


def _document() -> str:
    """The models of the document, without its paths: the console names the model of each route itself."""
    import importlib  # only this sub-command needs the app
    import pkgutil

    import triggers
    from triggers.http.openapi.document import document

    for module in pkgutil.walk_packages(triggers.__path__, "triggers."):
        importlib.import_module(module.name)
    return json.dumps({**document(), "paths": {}, "security": []}, sort_keys=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.console", description="Build the web console.")
    parser.add_argument("what", choices=("build", "types", "document"), nargs="?", default="build")
    what = parser.parse_args(arguments).what
    try:
        if what == "document":
            print(_document())
        elif what == "types":
            WIRE.write_text(asyncio.run(wire_types()), encoding="utf-8")
        else:
            asyncio.run(build(lambda name, text: print(f"{name}: {text}", file=sys.stderr)))
    except ConsoleNotBuilt as error:
        print(f"dev: console: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
