"""Pages that Vite builds, served with `/api` passed on to a host as the README of `examples/use-chat` says."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx

from devtools.setup.places import ROOT
from tests.e2e.support.processes import free_port, wait_for
from tests.support.node import install, node_binary, node_environment

_BUILD_S = 120


USE_CHAT = Path(ROOT, "examples", "use-chat")


def built_page(source: Path, folder: Path, **sources: str) -> Path:
    """A page of `source`, checked by TypeScript and built in `folder`; its packages are those of its lock.

    sources: texts of modules in place of the example's own, by the name of the file without `.tsx`.
    """
    place = folder / source.name
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("node_modules", "dist"))
    if sources:
        shutil.rmtree(place / "src")
        (place / "src").mkdir()
    for module, text in sources.items():
        (place / "src" / f"{module}.tsx").write_text(text, "utf-8")
    (place / "node_modules").symlink_to(install(source))
    for command in (["typescript/bin/tsc", "--noEmit"], ["vite/bin/vite.js", "build", "--logLevel", "warn"]):
        done = subprocess.run(
            [str(node_binary()), f"node_modules/{command[0]}", *command[1:]],
            cwd=place,
            env=node_environment(),
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return place


@contextlib.contextmanager
def served(place: Path, api_url: str, *, how: Literal["preview", "dev"] = "preview") -> Iterator[str]:
    """The address of a built page, or of one that Vite's development server makes; `api_url` is the host's."""
    port = free_port()
    command = ["node_modules/vite/bin/vite.js", how, "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    log = (place / "preview.log").open("w")
    process = subprocess.Popen(
        [str(node_binary()), *command],
        cwd=place,
        env={**node_environment(), "PARLEY_URL": api_url},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (place / "preview.log").read_text()
        try:
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(answers, f"vite {how} at {url}", 60)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        log.close()


IGNORED = re.compile(r"Failed to load resource|net::ERR")
"""What a browser logs by itself of a request that fails."""
