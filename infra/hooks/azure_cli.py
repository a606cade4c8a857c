"""`az` for the hooks: one command, its JSON, and a refusal in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn


class Refused(Exception):
    """`az` refused; the message is its own, in one line."""


def az(*arguments: str) -> Any:
    """The answer of one command, None when it says nothing. Raises Refused."""
    try:
        done = subprocess.run(["az", *arguments, "--output", "json"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refused("there is no `az` on PATH: https://learn.microsoft.com/cli/azure/install-azure-cli") from None
    if done.returncode != 0:
        raise Refused(_reason(done.stderr))
    return json.loads(done.stdout) if done.stdout.strip() else None


def needed(*names: str) -> list[str]:
    """The values of environment variables; ends the hook when one is missing."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        end(f"not set: {', '.join(missing)}; run this as an azd hook, or after `azd env get-values`")
    return [os.environ[name] for name in names]


def end(message: str) -> NoReturn:
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def _reason(stderr: str) -> str:
    """The line of the error. Warnings may stand before it, details after it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["az said nothing"]
    return next((line for line in lines if line.startswith("ERROR:")), lines[-1])
