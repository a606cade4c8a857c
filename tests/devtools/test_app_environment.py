"""`./dev host DIR` with an app that brings its own packages. They are wheels made here: no registry is asked."""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from devtools import app_environment
from devtools.app_environment import KEPT_DAYS, prepare

pytestmark = pytest.mark.timeout(180)
_WAIT_S = 90
_UV = Path(sys.executable).with_name("uv")
_APP = """
import importlib.util, json, sys
import azure.functions as func
import idna
import parley_test_thing

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("packages")
def packages(req: func.HttpRequest) -> str:
    beside = [name for name in ("shared", "devtools", "orjson") if importlib.util.find_spec(name)]
    return json.dumps([parley_test_thing.NAME, idna.NAME, sys.prefix, beside])
"""
_REQUIREMENTS = """
--no-index
--find-links wheels
parley-test-thing==1.0
idna
"""


def _wheel(folder: Path, name: str, version: str, said: str) -> None:
    """A package of one module, whose NAME is `said`."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"NAME = {said!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = io.StringIO()
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        csv.writer(rows).writerow([path, f"sha256={digest}", len(text)])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in (files | {f"{info}/RECORD": rows.getvalue()}).items():
            archive.writestr(path, text)


def _broken_sources(folder: Path) -> None:
    """A package that cannot be built."""
    backend = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "pyproject.toml": f'{backend}[project]\nname = "broken"\nversion = "1.0"\n',
        "backend.py": "def build_wheel(*_, **__):\n    raise RuntimeError('no compiler here')\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n",
    }
    with tarfile.open(folder / "broken-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"broken-1.0/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "host.json").write_text('{"version": "2.0"}')
    (folder / "function_app.py").write_text(_APP)
    (folder / "requirements.txt").write_text(_REQUIREMENTS)
    _wheel(folder / "wheels", "parley_test_thing", "1.0", "the thing")
    _wheel(folder / "wheels", "idna", "0.0.1", "the app's own")
    return folder


class Uv:
    """The real uv behind a script that writes down each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "uv"
        self.does("")

    def does(self, before: str) -> None:
        """Shell code that each run begins with; $1 is uv's command."""
        self.path.write_text(f'#!/bin/sh\necho "$1" >> {self.log}\n{before}\nexec {_UV} "$@"\n')
        self.path.chmod(0o755)

    @property
    def log(self) -> Path:
        return self.folder / "uv.log"

    @property
    def runs(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def uv(tmp_path: Path) -> Uv:
    return Uv(tmp_path)


def _prepare(app: Path, uv: Uv) -> subprocess.Popen[str]:
    """`prepare` in a process of its own; prints the Python."""
    program = (
        "import sys; from pathlib import Path\n"
        "from devtools.app_environment import prepare; from devtools.setup.install import guarded\n"
        "app, uv, cache = map(Path, sys.argv[1:])\n"
        "sys.exit(guarded(lambda: print(prepare(app, uv=uv, cache=cache)), 'interrupted'))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, app, uv.path, uv.folder / "cache"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _prepared(app: Path, uv: Uv) -> Path:
    process = _prepare(app, uv)
    told, errors = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 0, errors
    return Path(told.strip())


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def _host(app: Path, cache: Path, log: Path) -> Iterator[str]:
    """`./dev host` (without the set-up before it), and its address."""
    ready = log.with_suffix(".ready")
    ready.unlink(missing_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "devtools", "host", app, "--port", "0"),
                *("--data", log.with_suffix(".data"), "--ready-file", ready),
            ],
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
            stdout=output,
            stderr=output,
        )
    try:
        _wait(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield str(json.loads(ready.read_text())["base_url"])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_WAIT_S)


def _is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.e2e
def test_an_app_runs_with_its_own_packages_which_are_installed_once(app: Path, tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "host.log"
    with _host(app, cache, log) as url:
        thing, idna, prefix, beside = httpx.get(f"{url}/api/packages", timeout=30).json()
        assert not _is_free(Path(prefix).with_suffix(".lock")), "locked while the host runs"
    assert (thing, idna) == ("the thing", "the app's own"), "the app's version is imported, not the worker's"
    assert _is_free(Path(prefix).with_suffix(".lock"))
    assert Path(prefix).parent == cache / "devhost" / "apps"
    assert beside == [], "neither the checkout nor the host's other packages are there"
    told = [line for line in log.read_text().splitlines() if line.startswith("dev: ")]
    assert [line.partition(" (")[0] for line in told] == [
        f"dev: making an environment for {app}",
        f"dev: installing {app}/requirements.txt",
        "dev: the app's environment is made",
        "dev: the app's own versions win over those of the host's worker: idna 0.0.1",
    ]
    assert told[-1].endswith(f"idna 0.0.1 (not {version('idna')})")

    with _host(app, cache, log) as url:
        assert httpx.get(f"{url}/api/packages", timeout=30).json()[2] == prefix
    again = [line for line in log.read_text().splitlines() if line.startswith("dev: ")]
    assert again == told[-1:], "nothing is installed, and what differs is still said"


@pytest.mark.e2e
def test_an_app_without_requirements_runs_with_the_hosts_packages(app: Path, tmp_path: Path) -> None:
    (app / "requirements.txt").unlink()
    (app / "function_app.py").write_text(
        "import sys\nimport azure.functions as func\n"
        "app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)\n"
        '@app.route("prefix")\ndef prefix(req: func.HttpRequest) -> str:\n    return sys.prefix\n'
    )
    with _host(app, tmp_path / "cache", tmp_path / "host.log") as url:
        assert httpx.get(f"{url}/api/prefix", timeout=30).text == sys.prefix
    assert not (tmp_path / "cache").exists()


def test_only_other_requirements_are_installed_anew(app: Path, uv: Uv) -> None:
    first = _prepared(app, uv)
    assert uv.runs == ["venv", "pip"]
    assert _prepared(app, uv) == first
    assert uv.runs == ["venv", "pip"]

    requirements = app / "requirements.txt"
    (app / "more.txt").write_text("")
    requirements.write_text(_REQUIREMENTS + "-c more.txt\n-r ./more.txt\n")
    second = _prepared(app, uv)
    (app / "more.txt").write_text("idna==0.0.1\n")
    third = _prepared(app, uv)
    _wheel(app / "wheels", "parley_test_thing", "1.0", "another thing")
    requirements.write_text("--no-index\n./wheels/parley_test_thing-1.0-py3-none-any.whl\n")
    fourth = _prepared(app, uv)
    _wheel(app / "wheels", "parley_test_thing", "1.0", "a third thing")
    fifth = _prepared(app, uv)
    assert len({first, second, third, fourth, fifth}) == 5
    assert uv.runs == ["venv", "pip"] * 5

    requirements.write_text(_REQUIREMENTS)
    assert _prepared(app, uv) == first
    assert len(uv.runs) == 10


def test_two_starts_at_once_make_one_environment(app: Path, uv: Uv, tmp_path: Path) -> None:
    uv.does(f"while ! test -e {tmp_path}/go; do sleep 0.05; done")
    first = _prepare(app, uv)
    _wait(lambda: uv.runs == ["venv"])
    second = _prepare(app, uv)
    assert second.stderr is not None
    waits = second.stderr.readline()
    assert waits == "dev: waiting for another ./dev host, which installs or uses this app's packages\n"
    (tmp_path / "go").touch()
    assert first.communicate(timeout=_WAIT_S)[0] == second.communicate(timeout=_WAIT_S)[0] != ""
    assert (first.returncode, second.returncode) == (0, 0)
    assert uv.runs == ["venv", "pip"]


@pytest.mark.parametrize("step", ["venv", "pip"])
def test_an_installation_that_was_killed_is_made_anew_once_its_uv_has_ended(
    app: Path, uv: Uv, tmp_path: Path, step: str
) -> None:
    uv.does(f'if test "$1" = {step}; then kill -9 $PPID; while ! test -e {tmp_path}/go; do sleep 0.05; done; fi')
    killed = _prepare(app, uv)
    assert killed.wait(_WAIT_S) == -signal.SIGKILL
    before = uv.runs
    uv.does("")
    after = _prepare(app, uv)
    assert after.stderr is not None
    assert "waiting for another" in after.stderr.readline(), "the killed one's uv still writes"
    assert uv.runs == before
    (tmp_path / "go").touch()
    told, _ = after.communicate(timeout=_WAIT_S)
    assert after.returncode == 0
    assert uv.runs == [*before, "venv", "pip"]
    assert subprocess.run([told.strip(), "-c", "import parley_test_thing"], check=False).returncode == 0


def test_an_interrupted_installation_leaves_nothing(app: Path, uv: Uv) -> None:
    uv.does('test "$1" = venv || exec sleep 600')
    process = _prepare(app, uv)
    _wait(lambda: uv.runs == ["venv", "pip"])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=_WAIT_S)
    assert (process.returncode, errors.splitlines()[-1]) == (128 + signal.SIGTERM, "dev: interrupted")
    (left,) = (uv.folder / "cache").iterdir()
    assert _is_free(left), "uv has ended"


@pytest.mark.parametrize(
    ("requirements", "told"),
    [
        ("no-such-thing-7431==2.5\nidna\n", "you require no-such-thing-7431==2.5"),
        ("idna==7.0\n", "no version of idna==7.0"),
        ("idna ~~ 3\n", "idna ~~ 3"),
        ("./wheels/gone-1.0-py3-none-any.whl\n", "gone-1.0-py3-none-any.whl"),
        ("broken==1.0\n", "Failed to build `broken==1.0`: "),
        ("broken==1.0\n", "RuntimeError: no compiler here"),
    ],
)
def test_a_requirement_that_cannot_be_installed_is_one_line(app: Path, uv: Uv, requirements: str, told: str) -> None:
    _broken_sources(app / "wheels")
    (app / "requirements.txt").write_text(f"--no-index\n--find-links wheels\n{requirements}")
    process = _prepare(app, uv)
    output, errors = process.communicate(timeout=_WAIT_S)
    assert (process.returncode, output) == (1, "")
    lines = errors.splitlines()
    assert lines[:-1] == [f"dev: making an environment for {app}", f"dev: installing {app}/requirements.txt"]
    assert lines[-1].startswith(f"dev: installing {app}/requirements.txt failed: ")
    assert told in lines[-1]
    assert [path.suffix for path in (uv.folder / "cache").iterdir()] == [".lock"], "nothing half-made is left"


def test_environments_that_nobody_uses_any_more_are_removed(app: Path, uv: Uv) -> None:
    cache = uv.folder / "cache"
    old = time.time() - (KEPT_DAYS + 1) * 86_400
    unused = _prepared(app, uv).parents[1]
    (app / "requirements.txt").write_text("--no-index\n")
    used = prepare(app, uv=uv.path, cache=cache).parents[1]  # locked until this process ends
    (app / "requirements.txt").write_text("--no-index\n--find-links wheels\nidna\n")
    recent = _prepared(app, uv).parents[1]
    for one in (unused, used):
        os.utime(one.with_suffix(".lock"), (old, old))
    (app / "requirements.txt").write_text("--no-index\n# one more\n")
    newest = _prepared(app, uv).parents[1]
    assert {path for path in cache.iterdir() if path.is_dir()} == {used, recent, newest}
    assert not unused.with_suffix(".lock").exists()


def test_all_that_the_worker_needs_is_there_without_the_apps_help(app: Path, uv: Uv) -> None:
    (app / "requirements.txt").write_text("--no-index\n")
    python = _prepared(app, uv)
    program = (
        "import sys; sys.path.append(sys.argv[1]); import devhost.worker.process, devhost.worker.calls, "
        "devhost.worker.answers, devhost.asgi.serving, httptools, uvloop"
    )
    root = Path(app_environment.__file__).parents[1]
    done = subprocess.run([python, "-I", "-c", program, root], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
