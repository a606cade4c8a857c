#!/usr/bin/env python3
"""Before new code comes: would all that waits go on with it? Asks `./dev upgrade-check`, where there are histories.

Neither durable backend gives its histories to this machine, so they are exported ones, which UPGRADE_HISTORIES names.
Without them nothing is checked, and one line says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = ".data/package"
"""Of this deployment: the service's hook `prepackage` has just built it (azure.yaml)."""


def main() -> int:
    histories = os.environ.get("UPGRADE_HISTORIES")
    if not histories:
        backend = os.environ.get("DURABLE_BACKEND") or "the durable backend"
        print(
            f"upgrade: not checked whether what waits goes on with this package: the histories of {backend} cannot be "
            "read from here; UPGRADE_HISTORIES names a folder of exported ones (docs/replay.md)"
        )
        return 0
    dev = Path(__file__).parents[2] / "dev"
    command = [sys.executable, str(dev), "upgrade-check", PACKAGE, "--histories", histories]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
