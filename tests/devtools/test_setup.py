"""`./dev` on a checkout without .venv, with a lock that holds no more than uv."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devtools import __main__ as commands
from devtools import usage
from devtools.setup import bootstrap, places

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
_NOTHING = ("migrate",)
"""A command that is set up and then refuses, without a package."""
_TOLD = "dev: set POSTGRES_URL to the database to migrate\n"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout with the real `dev` and `devtools`."""
    return _checkout(tmp_path)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A checkout that was set up, and the run that did it."""
    root = _checkout(tmp_path_factory.mktemp("set-up"))
    return root, _dev(root, *_NOTHING)


def _checkout(folder: Path) -> Path:
    root = folder / "a checkout"
    root.mkdir()
    shutil.copy(ROOT / "dev", root / "dev")
    shutil.copytree(ROOT / "devtools", root / "devtools", ignore=shutil.ignore_patterns("__pycache__"))
    lock = (ROOT / "requirements-dev.lock").read_text()
    uv = re.search(r"(?m)^uv==.*\n(?:    --hash=.*\n)+", lock)
    assert uv is not None
    (root / "requirements-dev.lock").write_text(uv.group())
    return root


def _dev(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    python = Path(sys.prefix) / "bin" / "python"
    path = f"{Path(os.path.realpath(python)).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [python, root / "dev", *arguments],
        env=os.environ | {"PATH": path, "POSTGRES_URL": ""} | env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_first_run_sets_up_and_the_second_does_nothing(
    first_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    root, first = first_run
    assert first.returncode == 2, first.stderr
    assert "dev: set-up done in" in first.stderr
    second = _dev(root, *_NOTHING)
    assert (second.returncode, second.stderr) == (2, _TOLD)


def test_a_changed_lock_and_a_moved_checkout_are_noticed(
    first_run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    root = shutil.copytree(first_run[0], tmp_path / "a copy", symlinks=True)
    assert _dev(root, *_NOTHING).stderr.endswith(_TOLD)
    lock = root / "requirements-dev.lock"
    lock.write_text(lock.read_text() + "# changed\n")
    assert "dev: set-up done in" in _dev(root, *_NOTHING).stderr
    moved = root.rename(root.with_name("moved"))
    assert "dev: set-up done in" in _dev(moved, *_NOTHING).stderr


def test_help_needs_no_set_up(fresh: Path) -> None:
    shown = _dev(fresh)
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: ./dev COMMAND")
    assert not (fresh / ".venv").exists()


@pytest.mark.parametrize("asked", [("up", "--help"), ("up", "--port", "7072", "-h"), ("test", "--help")])
def test_help_with_a_command_needs_no_set_up(fresh: Path, asked: tuple[str, ...]) -> None:
    shown = _dev(fresh, *asked)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"usage: ./dev {asked[0]} ")
    assert not (fresh / ".venv").exists()


def test_each_page_of_help_is_what_the_command_itself_says() -> None:
    assert Path(places.USAGE).read_text("utf-8") == usage.pages(), "run: .venv/bin/python -m devtools.usage"
    for command in bootstrap.COMMANDS:
        assert f"./dev {command}" in bootstrap.usage_of(command).splitlines()[0]


def test_an_unknown_command_needs_no_set_up(fresh: Path) -> None:
    refused = _dev(fresh, "start")
    assert (refused.returncode, refused.stderr) == (2, "dev: no command 'start'; ./dev lists them\n")
    assert not (fresh / ".venv").exists()


def test_every_command_is_known_before_and_after_the_set_up_and_in_the_help() -> None:
    assert set(commands.MODULES) == set(bootstrap.COMMANDS)
    assert re.findall(r"(?m)^  ([\w-]+) ", bootstrap.HELP) == list(bootstrap.COMMANDS)


def test_a_step_that_fails_is_one_line_and_is_done_again(fresh: Path) -> None:
    lock = fresh / "requirements-dev.lock"
    good = lock.read_text()
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, good))
    failed = _dev(fresh, *_NOTHING)
    assert failed.returncode == 1
    told = failed.stderr.splitlines()
    assert told[-1].startswith("dev: installing uv failed: ")
    assert "Traceback" not in failed.stderr
    lock.write_text(good)
    assert _dev(fresh, *_NOTHING).stderr.endswith(_TOLD)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_set_up_leaves_no_process_and_no_stamp(fresh: Path, number: signal.Signals) -> None:
    python = Path(sys.prefix) / "bin" / "python"
    path = f"{Path(os.path.realpath(python)).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [python, fresh / "dev", "test"], env=os.environ | {"PATH": path}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("dev: making .venv"):
            break
    children: list[psutil.Process] = []
    while not children:
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.send_signal(number)
    told = process.stderr.read()
    assert process.wait(60) == 128 + number
    assert told.endswith("dev: set-up interrupted; the next run starts it again\n")
    psutil.wait_procs(children, timeout=30)
    assert [child for child in children if child.is_running()] == []
    assert not (fresh / ".venv" / "bin" / "pip").exists(), "the step was ended, not waited for"
    assert not (fresh / ".venv" / "dev-stamp").exists()


def test_a_python_too_old_to_start_with_is_told_in_one_line(tmp_path: Path) -> None:
    """`dev` itself must stay valid for old versions, so that it can say so."""
    text = (ROOT / "dev").read_text()
    assert text.index("sys.version_info <") < text.index("from devtools")
    for newer in ("f'", 'f"', ":=", "from __future__"):
        assert newer not in text


@pytest.mark.parametrize("name", ["bootstrap", "install", "interpreters", "places", "__init__"])
def test_what_runs_before_the_set_up_is_valid_python_3_8(name: str) -> None:
    ast.parse((ROOT / "devtools" / "setup" / f"{name}.py").read_text(), feature_version=(3, 8))
