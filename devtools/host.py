"""`./dev host DIR`: the local host with any other app.

An app that has a requirements.txt gets an environment of its own; the host itself always runs in `.venv`, and so do
the workers of an app without one, and of the app of this checkout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from devhost.cli import parser
from devhost.servers.azurite import cache_root
from devtools.app_environment import REQUIREMENTS, prepare
from devtools.setup.install import guarded
from devtools.setup.places import ROOT


def main(arguments: Sequence[str]) -> int:
    """Replace this process by the host; returns the exit code when there is none to start."""
    of_host = parser()
    of_host.prog = "./dev host"
    options = of_host.parse_args(arguments)
    app_dir = options.dir.resolve()
    command = [sys.executable, "-P", "-m", "devhost", *arguments]
    if options.python is None and app_dir != Path(ROOT) and (app_dir / REQUIREMENTS).is_file():

        def work() -> None:
            python = prepare(app_dir, uv=Path(sys.executable).with_name("uv"), cache=cache_root() / "apps")
            command.extend(("--python", str(python)))

        code = guarded(work, "installing interrupted; the next start begins it again")
        if code != 0:
            return code
    return os.execv(sys.executable, command)  # noqa: S606  # no shell is wanted
