"""Which Python `./dev` chooses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from devtools.setup.interpreters import Failure, find_python, good_python

pytestmark = pytest.mark.timeout(60)

FAILING_SHIM = "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n"


def _script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _python_of_version(path: Path, version: str) -> Path:
    return _script(path, f"#!/bin/sh\necho {version}\n")


def _no_uv() -> NoReturn:
    raise AssertionError("uv was asked for")


def _no_run(what: str, argv: list[str]) -> None:
    raise Failure(f"{what} failed: no network")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing on PATH, no pyenv, and started by an old Python."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(sys, "executable", str(_python_of_version(tmp_path / "old", "3.11.7")))
    return tmp_path


def test_the_running_interpreter_is_good_by_its_own_word() -> None:
    assert good_python(Path(sys.prefix) / "bin" / "python") == ".".join(str(part) for part in sys.version_info[:3])


@pytest.mark.parametrize("version", ["3.12.9", "2.7.18", "nonsense"])
def test_an_old_or_strange_one_is_not_good(machine: Path, version: str) -> None:
    assert good_python(_python_of_version(machine / "python", version)) == ""


def test_path_comes_first(machine: Path) -> None:
    wanted = _python_of_version(machine / "bin" / "python3.13", "3.13.1")
    _python_of_version(machine / "pyenv" / "versions" / "3.13.9" / "bin" / "python3", "3.13.9")
    assert find_python(_no_uv, _no_run) == wanted


def test_a_shim_that_fails_is_passed_over_for_pyenvs_own_version(machine: Path) -> None:
    _script(machine / "bin" / "python3.13", FAILING_SHIM)
    _python_of_version(machine / "pyenv" / "versions" / "3.12.1" / "bin" / "python3", "3.12.1")
    wanted = _python_of_version(machine / "pyenv" / "versions" / "3.13.0" / "bin" / "python3", "3.13.0")
    assert find_python(_no_uv, _no_run) == wanted


def test_a_later_folder_on_path_is_tried_when_the_first_fails(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(machine / "bin" / "python3.13", FAILING_SHIM)
    wanted = _python_of_version(machine / "usr" / "python3.13", "3.13.5")
    monkeypatch.setenv("PATH", f"{machine / 'bin'}:{machine / 'usr'}")
    assert find_python(_no_uv, _no_run) == wanted


def test_3_13_is_preferred_to_a_newer_one(machine: Path) -> None:
    _python_of_version(machine / "bin" / "python3", "3.14.2")
    wanted = _python_of_version(machine / "pyenv" / "versions" / "3.13.0" / "bin" / "python3", "3.13.0")
    assert find_python(_no_uv, _no_run) == wanted


def test_a_newer_one_is_taken_when_there_is_no_3_13(machine: Path) -> None:
    wanted = _python_of_version(machine / "bin" / "python3", "3.14.2")
    assert find_python(_no_uv, _no_run) == wanted


def test_uv_installs_one_when_there_is_none(machine: Path) -> None:
    wanted = _python_of_version(machine / "uv-python", "3.13.7")
    done = machine / "installed"
    _script(machine / "bin" / "uv", f"#!/bin/sh\n[ -e {done} ] && echo {wanted}\n")
    steps: list[list[str]] = []

    def run(what: str, argv: list[str]) -> None:
        steps.append(argv)
        done.touch()

    assert find_python(_no_uv, run) == wanted
    assert [argv[1:3] for argv in steps] == [["python", "install"]]


def test_nothing_found_is_one_line_that_says_what_to_install(machine: Path) -> None:
    _script(machine / "bin" / "uv", "#!/bin/sh\nexit 1\n")
    with pytest.raises(Failure) as failure:
        find_python(_no_uv, _no_run)
    assert "no Python 3.13 found" in str(failure.value)
    assert "install it" in str(failure.value)
    assert "\n" not in str(failure.value)
