"""Find a Python that is new enough and really runs. Written for Python 3.8.

A candidate counts only after it was run: a pyenv shim named `python3.13` exists, but fails, when a pyenv version has
that name and none is selected. Such a shim also makes `uv python find` fail.

Invariant: an interpreter is returned only after it reported its own version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

OLDEST = (3, 13)
_PROBE = "import sys, venv, ensurepip; print('%d.%d.%d' % sys.version_info[:3])"
_TIMEOUT_S = 20


class Failure(Exception):
    """Set-up cannot go on; the message is one line."""


def good_python(path: Path) -> str:
    """Its version, such as "3.13.0"; empty when it does not run, is too old or cannot make environments."""
    if not os.access(path, os.X_OK):
        return ""
    try:
        probe = subprocess.run(
            [str(path), "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    version = probe.stdout.decode(errors="replace").strip()
    if probe.returncode != 0 or not re.match(r"\d+\.\d+\.\d+$", version):
        return ""
    return version if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST else ""


def find_python(install_uv: Callable[[], Path], run: Callable[[str, list[str]], None]) -> Path:
    """Search PATH, then pyenv's versions, then uv. 3.13 is preferred to newer versions, since Azure runs 3.13.

    install_uv: makes uv available and returns its path. run: runs a step with progress.
    Raises Failure when there is none and none can be installed.
    """
    for candidate in _candidates():
        if good_python(candidate):
            return candidate
    return _from_uv(install_uv, run)


def _candidates() -> list[Path]:
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    pyenv_root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    versions = _pyenv_versions(pyenv_root / "versions")
    exact = [folder / "python3.13" for folder in folders]
    exact += [path for version, path in versions if version[:2] == (3, 13)]
    newer = [folder / name for folder in folders for name in ("python3", "python3.14")]
    newer += [path for version, path in versions if version[:2] > (3, 13)]
    return list(dict.fromkeys([*exact, *newer, Path(sys.executable)]))


def _pyenv_versions(folder: Path) -> list[tuple[tuple[int, ...], Path]]:
    """(version, interpreter), newest first."""
    try:
        versions = [entry for entry in folder.iterdir() if re.match(r"\d+(\.\d+)+$", entry.name)]
    except OSError:  # missing or not readable
        return []
    found = [(tuple(int(part) for part in entry.name.split(".")), entry / "bin" / "python3") for entry in versions]
    return sorted(found, reverse=True)


def _from_uv(install_uv: Callable[[], Path], run: Callable[[str, list[str]], None]) -> Path:
    hint = "install it (python.org, pyenv install 3.13, or your package manager), then run this again"
    on_path = shutil.which("uv")
    try:
        uv = Path(on_path) if on_path else install_uv()
        found = _uv_find(uv)
        if found is None:
            run("downloading Python 3.13 with uv", [str(uv), "python", "install", "3.13"])
            found = _uv_find(uv)
    except Failure as failure:
        raise Failure(f"no Python 3.13 found, and uv could not install one ({failure}): {hint}") from failure
    if found is None:
        raise Failure(f"no Python 3.13 found on PATH, under pyenv or by uv: {hint}")
    return found


def _uv_find(uv: Path) -> Path | None:
    """A Python that uv installed itself. System interpreters are excluded, since a broken shim would end the search."""
    probe = subprocess.run(
        [str(uv), "python", "find", "--managed-python", "3.13"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    path = Path(probe.stdout.decode(errors="replace").strip())
    return path if probe.returncode == 0 and good_python(path) else None
