"""`parley-client`: built by uv's own backend, which fetches nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import uv

from devtools.clients import blocking
from devtools.clients.versions import CLIENTS, PACKAGES, NotPublishable, version

SOURCE = CLIENTS / "python"


def build(target: Path = PACKAGES / "python") -> list[Path]:
    """The sdist and the wheel, made from the sdist, in a folder that holds nothing else. Raises NotPublishable."""
    version()
    if blocking.TARGET.read_text("utf-8") != blocking.blocking(blocking.SOURCE.read_text("utf-8")):
        raise NotPublishable("_sync.py is not what _async.py makes: .venv/bin/python -m devtools.clients.blocking")
    shutil.rmtree(target, ignore_errors=True)
    command = [uv.find_uv_bin(), "build", "--offline", "--no-config", "--out-dir", str(target), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotPublishable(f"uv build: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return sorted(path for path in target.iterdir() if path.suffix in {".gz", ".whl"})


def upload(built: list[Path]) -> list[str]:
    """The command that publishes. Who may: UV_PUBLISH_TOKEN, or the pipeline that PyPI trusts."""
    return [uv.find_uv_bin(), "publish", "--no-config", *map(str, built)]
