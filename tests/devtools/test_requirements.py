"""The requirement files: pinned, explained, consistent, and free of this or any machine's addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIRECT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[a-z,]+\])?==(?P<version>[\w.]+) +# (?P<reason>.+)$")
PIN = re.compile(r"(?m)^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[\w.]+)")


def _direct(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-"))]
    matches = [DIRECT.match(line) for line in wanted]
    unmatched = [line for line, match in zip(wanted, matches, strict=True) if match is None]
    assert unmatched == [], "each needs an exact version and a reason"
    return {match["name"]: match["version"] for match in matches if match is not None}


def _pins(name: str) -> dict[str, str]:
    return {match["name"]: match["version"] for match in PIN.finditer((ROOT / name).read_text())}


def test_the_app_is_built_from_the_constraints() -> None:
    assert "-c constraints.txt" in (ROOT / "requirements.txt").read_text().splitlines()


def test_direct_requirements_are_in_the_locks_at_their_version() -> None:
    app, dev = _direct("requirements.txt"), _direct("requirements-dev.txt")
    assert app.items() <= _pins("constraints.txt").items()
    assert (app | dev).items() <= _pins("requirements-dev.lock").items()


def test_no_requirement_is_both_the_apps_and_developments() -> None:
    assert _direct("requirements.txt").keys() & _direct("requirements-dev.txt").keys() == set()


def test_development_runs_the_versions_that_are_deployed() -> None:
    assert _pins("constraints.txt").items() <= _pins("requirements-dev.lock").items()


def test_everything_in_the_lock_has_a_hash() -> None:
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / "requirements-dev.lock").read_text())[1:]
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "constraints.txt", "requirements-dev.lock"]
)
def test_no_address_and_no_index_option_is_in_a_file(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert re.findall(r"(?m)^--.*", text) == []
    assert re.findall(r"(?m)^\S*(?:/home|/root|/tmp|/Users|/opt)\S*", text) == []


def test_azurites_lock_holds_no_address_either() -> None:
    text = (ROOT / "devhost" / "servers" / "azurite" / "package-lock.json").read_text()
    assert re.findall(r'"resolved": "[^"]*://[^"]*"', text) == []
