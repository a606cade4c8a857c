"""The environment of an app that `./dev host` runs: what its requirements.txt names, and what the host's worker needs.

It is installed once, into the user's cache folder, under the digest of all that it is made from; later starts need
neither uv nor a network. As in Azure, the app's own version wins where both need a package: of the worker's packages,
those that the app's requirements did not bring are copied from `.venv`, into which they were installed by hash.

Invariants: whoever makes or uses an environment holds its lock, uv included, so two starts make one environment, and
none is removed below a running host. The stamp is written last: what was interrupted is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from devtools.setup.install import lock, run_step, say, uv_environment
from devtools.setup.interpreters import Failure

REQUIREMENTS = "requirements.txt"
WORKER = ("azure-functions-runtime", "httptools", "starlette", "uvicorn", "uvloop")
"""What `devhost/worker` imports; apps that stream bring FastAPI themselves."""
KEPT_DAYS = 30
"""An environment that no start used for so long is removed."""
_FORMAT = "1"
"""Another one for another way to make environments."""
_STAMP = "complete"
"""Holds the line on versions that differ from the worker's."""


def prepare(app_dir: Path, *, uv: Path, cache: Path) -> Path:
    """Make the app's environment unless there is one. Returns its Python.

    cache: folder of all such environments. Until this process ends, or the program that replaces it, the environment is
    locked. Raises Failure with the reason in one line.
    """
    packages = _worker_packages()
    environment = cache / _digest(app_dir, packages)
    python, stamp = environment / "bin" / "python", environment / _STAMP
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _prune(cache)
        held = _locked(environment, fcntl.LOCK_SH)
        while not (stamp.exists() and python.exists()):  # false for a link to a Python that was removed
            os.close(held)
            held = _locked(environment, fcntl.LOCK_EX)
            if not (stamp.exists() and python.exists()):
                _make(environment, app_dir, packages, uv, held)
            # Between the two locks it may be removed: hence the loop.
            fcntl.flock(held, fcntl.LOCK_SH)
        note = stamp.read_text("utf-8")
    except OSError as error:
        raise Failure(f"the app's environment cannot be made in {cache} ({error.strerror or error})") from error
    if note:
        say(note)
    return python


def _locked(environment: Path, kind: int) -> int:
    """The descriptor of its lock, which programs that replace this one keep."""
    path = environment.with_suffix(".lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        lock(descriptor, kind, "waiting for another ./dev host, which installs or uses this app's packages")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.utime(descriptor)
                os.set_inheritable(descriptor, True)
                return descriptor
        os.close(descriptor)  # it was removed while we waited


def _make(environment: Path, app_dir: Path, packages: Mapping[str, Distribution], uv: Path, held: int) -> None:
    began = time.monotonic()
    try:
        run_step(
            f"making an environment for {app_dir}",
            # Host and worker are to be of the same version.
            [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)],
            env=uv_environment(),
            pass_fds=(held,),
        )
        python = environment / "bin" / "python"
        run_step(
            f"installing {app_dir / REQUIREMENTS}",
            [str(uv), "pip", "install", "--quiet", "--python", str(python), "--requirement", REQUIREMENTS],
            env=uv_environment(),
            cwd=app_dir,
            pass_fds=(held,),
        )
        site = next(environment.glob("lib/python*/site-packages"))
        installed = {_normalised(found.name): found.version for found in distributions(path=[str(site)])}
        for name in packages.keys() - installed:
            _copy(packages[name], site)
        (environment / _STAMP).write_text(_differences(installed, packages), "utf-8")
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise
    say(f"the app's environment is made ({time.monotonic() - began:.1f} s): {environment}")


def _worker_packages() -> dict[str, Distribution]:
    """What the worker needs, and what that needs, by normalised name."""
    found: dict[str, Distribution] = {}
    wanted = [*WORKER]
    while wanted:
        name = _normalised(wanted.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if name in WORKER:
                raise Failure(f"{name} is not installed: run ./dev in the checkout") from None
            continue  # needed on another system only
        for requirement in found[name].requires or ():
            text, _, marker = requirement.partition(";")
            if "extra" not in marker:
                wanted += re.findall(r"^[\w.-]+", text)
    return found


def _copy(package: Distribution, site: Path) -> None:
    for file in package.files or ():
        if ".." in file.parts or file.suffix == ".pyc":  # programs, and what Python writes itself
            continue
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), site / file)


def _differences(installed: Mapping[str, str], packages: Mapping[str, Distribution]) -> str:
    """One line on the app's packages whose versions are not the worker's; empty when there are none."""
    differing = [
        f"{name} {installed[name]} (not {package.version})"
        for name, package in sorted(packages.items())
        if installed.get(name, package.version) != package.version
    ]
    return f"the app's own versions win over those of the host's worker: {', '.join(differing)}" if differing else ""


def _digest(app_dir: Path, packages: Mapping[str, Distribution]) -> str:
    digest = hashlib.sha256()
    parts = [_FORMAT, sys.version, sys.base_prefix]
    parts += sorted(f"{name}=={package.version}" for name, package in packages.items())
    for part in parts:
        digest.update(part.encode() + b"\0")
    for path in _named(app_dir / REQUIREMENTS, app_dir, set()):
        if path.is_file():
            digest.update(path.read_bytes() + b"\0")
        else:
            digest.update(f"{path}\0".encode())
    return digest.hexdigest()[:16]


def _named(path: Path, app_dir: Path, seen: set[Path]) -> Iterator[Path]:
    """A requirements file, and the files and folders that it names: others like it, wheels, sources."""
    path = path.resolve()
    if path in seen:
        return
    seen.add(path)
    yield path
    if path.is_dir():
        for name in ("pyproject.toml", "setup.cfg", "setup.py"):
            if (path / name).is_file():
                yield path / name
    elif path.suffix in (".txt", ".in"):
        for word in re.split(r"[\s=@;\[\]]+", path.read_text("utf-8", "replace")):
            name = re.sub(r"^(-[rce]|file://)", "", word)
            for folder in (path.parent, app_dir):
                if name and (folder / name).exists():
                    yield from _named(folder / name, app_dir, seen)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _prune(cache: Path) -> None:
    """Remove the environments that nobody uses."""
    for path in cache.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):  # another one removes it
            if time.time() - path.stat().st_mtime < KEPT_DAYS * 86_400:
                continue
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                environment = path.with_suffix("")
                (environment / _STAMP).unlink(missing_ok=True)  # first, as it was written last
                shutil.rmtree(environment, ignore_errors=True)
                path.unlink()
            finally:
                os.close(descriptor)
