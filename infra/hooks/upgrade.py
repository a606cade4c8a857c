#!/usr/bin/env python3
"""Before new code comes: would all that waits go on with it? Asks `./dev upgrade-check`, where there are histories.

A task hub in Azure Storage is read itself, as whoever deploys (DURABLE_STORAGE, an output of infra/). The Scheduler
gives its histories to workers only: there, UPGRADE_HISTORIES names exported ones, as it may for either backend. Without
any nothing is checked, and one line says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = ".data/package"
"""Of this deployment: the service's hook `prepackage` has just built it (azure.yaml)."""
PATIENCE_S = "300"
"""The role that lets a deployer read the hub is as new as the hub, after a first `azd up`."""


def main() -> int:
    histories, account = os.environ.get("UPGRADE_HISTORIES"), os.environ.get("DURABLE_STORAGE")
    if histories:
        source = ["--histories", histories]
    elif account:
        source = ["--storage", account, "--patience", os.environ.get("HOOK_WAIT_SECONDS", PATIENCE_S)]
    else:
        backend = os.environ.get("DURABLE_BACKEND") or "the durable backend"
        print(
            f"upgrade: not checked whether what waits goes on with this package: the histories of {backend} cannot be "
            "read from here; UPGRADE_HISTORIES names a folder of exported ones (docs/replay.md)"
        )
        return 0
    dev = Path(__file__).parents[2] / "dev"
    command = [sys.executable, str(dev), "upgrade-check", PACKAGE, *source]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
