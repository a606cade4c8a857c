"""Starts the process of a worker.

Not here: what is said to it (`workers.py`), and what it does (`../worker`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

_ROOT = str(Path(__file__).resolve().parents[2])
_CODE = f"""
import sys
sys.path.append({_ROOT!r})
from devhost.worker.process import main
sys.path.remove({_ROOT!r})
main()
"""
"""What else lies beside `devhost` is not for the app to import."""


class WorkerProcess(Protocol):
    """As `asyncio.subprocess.Process`. Its standard input ends when this process does."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def kill(self) -> None: ...


async def start_process(
    python: Path | None, options: Mapping[str, Any], *, channel: int, log: int, environment: Mapping[str, str]
) -> WorkerProcess:
    """Start `devhost.worker.process` in the app's folder.

    python: None for this one's. channel and log: descriptors that it inherits. Raises OSError when the Python cannot be
    run.
    """
    told = json.dumps({**options, "channel": channel, "log": log})
    return await asyncio.create_subprocess_exec(
        *(python or sys.executable, "-c", _CODE, told),
        stdin=asyncio.subprocess.PIPE,
        cwd=options["app_dir"],
        env=environment,
        pass_fds=(channel, log),
    )
