"""The orchestrators of a package, run in a process of its own over histories.

Invariant: the package gets no setting of this process: with none of its secrets it can reach nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from devhost.durable.replay.actions import EpisodeOutput, parse_failure, parse_output
from devtools.histories.judging import Names
from devtools.histories.stored import Json

SDK = "azure-functions-durable"
_PROGRAM = Path(__file__).with_name("package_process.py")
_PASSED = ("HOME", "LANG", "PATH", "TMPDIR")
_LEAST = {
    "APPROVAL_LINK_SECRET": "not-a-secret-" * 4,
    "AUTH_MODE": "dev",
    "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    "OPENAI_MODEL": "none",
    "POSTGRES_URL": "postgresql://127.0.0.1:1/none",
    "PUBLIC_BASE_URL": "http://localhost:7071",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}
"""What the app wants to be told before it can be imported; nothing listens there."""


class NotAPackage(Exception):
    """The message says what is wrong with it."""


class Package:
    """Use as `with Package.opened(path) as package`."""

    def __init__(self, process: subprocess.Popen[str], names: Names) -> None:
        self._process = process
        self.names = names

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, *, python: Path | None = None) -> Iterator[Package]:
        """path: a folder with `function_app.py`, or a zip file of one. python: None: the one that runs this.

        Raises NotAPackage.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_unpacked(path)) if path.is_file() else path.resolve()
            if not (folder / "function_app.py").is_file():
                raise NotAPackage(f"{path} has no function_app.py: name a folder of ./dev package, or its zip file")
            if python is None:
                _check_sdk(folder)
            errors = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            process = subprocess.Popen(
                [str(python or sys.executable), "-P", str(_PROGRAM), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=_environment(os.environ),
            )
            try:
                yield cls(process, _names(process, errors, path))
            finally:
                process.kill()
                process.communicate()

    def replay(self, name: str, context: Json) -> EpisodeOutput:
        """One call of an orchestrator's handle. Raises NotAPackage when its process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"name": name, "context": context}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise NotAPackage(f"importing it ended the process in {name}") from error
        answer = _line(self._process)
        if answer is None:
            raise NotAPackage(f"its orchestrator {name} ended the process")
        try:
            return parse_failure(answer["failure"]) if "failure" in answer else parse_output(answer["state"])
        except ValueError as error:
            return EpisodeOutput(error=str(error), leaves=None)


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="upgrade-check-") as folder:
        try:
            shutil.unpack_archive(path, folder, "zip")
        except (zipfile.BadZipFile, OSError) as error:
            raise NotAPackage(f"{path} is no zip file: {error}") from error
        yield Path(folder).resolve()


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name] for name in _PASSED if name in given} | _LEAST


def _check_sdk(folder: Path) -> None:
    """A replay by another version of the SDK than the package's own would prove nothing."""
    file = folder / "requirements.txt"
    text = file.read_text("utf-8") if file.is_file() else ""
    wanted = re.search(rf"(?mi)^{SDK}==([^\s;#\\]+)", text)
    try:
        have = version(SDK)
    except PackageNotFoundError:  # then it says itself what it lacks
        return
    if wanted is not None and wanted[1] != have:
        raise NotAPackage(f"it needs {SDK} {wanted[1]} and this environment has {have}: name one by --python PATH")


def _names(process: subprocess.Popen[str], errors: IO[str], path: Path) -> Names:
    told = _line(process)
    if told is None:
        process.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
        raise NotAPackage(f"{path} cannot be imported: {said[-1] if said else f'code {process.returncode}'}")
    return Names(told["orchestrations"], told["activities"])


def _line(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    assert process.stdout is not None
    text = process.stdout.readline()
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found
