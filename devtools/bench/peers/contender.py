"""A peer's program as a contender, and the environment that it runs in.

Invariant: nothing of this environment is installed into the project's own, and nothing of the project's into it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devhost.servers import ServerError
from devhost.servers.folder import LOOPBACK
from devhost.servers.process import Command, run_to_end
from devhost.servers.supervise import Report
from devtools.bench.contender import Contender
from devtools.setup.places import ROOT

REQUIREMENTS = Path(__file__).parent / "program" / "requirements.txt"


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine of `program/engines.py`. python: of the environment that `environment` made."""

    engine: str
    python: Path

    def contender(self, label: str, folder: Path, *, settings: Mapping[str, str], report: Report) -> Contender:
        return PeerHost(label, self, folder, settings=settings, report=report)


class PeerHost(Contender):
    """The program of a peer. It makes its tables when it starts."""

    def __init__(self, label: str, peer: Peer, folder: Path, *, settings: Mapping[str, str], report: Report) -> None:
        super().__init__(label, folder, settings=settings, report=report)
        self._peer = peer

    async def prepare(self) -> None:
        self.folder.make()

    def command(self) -> Command:
        self._ready_file.unlink(missing_ok=True)
        program = ("-m", "devtools.bench.peers.program", self._peer.engine, str(self._port), str(self._ready_file))
        return Command(
            name=self.name,
            argv=(str(self._peer.python), "-P", *program),
            env={**os.environ, "PYTHONPATH": ROOT, **self._settings},
            cwd=self.folder.path,
            pid_file=self.folder.pid_file,
            log_file=self.folder.log_file,
            stop_timeout_s=self.stop_timeout_s,
        )

    async def is_ready(self) -> bool:
        # The program writes it once its tables are made; the port is bound a moment later.
        return self._ready_file.exists() and self._ready_file.read_text() == str(self.pid) and await self._is_bound()

    async def _is_bound(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        writer.close()
        return True


async def environment(folder: Path) -> Path:
    """The Python of an environment with the peers' packages, made in `folder` unless it was made of the same ones.

    Raises ServerError.
    """
    python, made = folder / "bin" / "python", folder / "made-of.txt"
    wanted = REQUIREMENTS.read_text("utf-8")
    if made.exists() and made.read_text("utf-8") == wanted:
        return python
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)],
    )
    for step in steps:
        code, output = await run_to_end(step, cwd=Path(ROOT), env=dict(os.environ))
        if code != 0:
            raise ServerError(f"the peers' packages cannot be installed: {output.strip()[-300:]}")
    made.write_text(wanted, "utf-8")
    return python
