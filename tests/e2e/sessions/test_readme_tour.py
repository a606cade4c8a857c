"""The README's tour, run as it stands: the commands a newcomer copies, against a real `./dev up`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devtools.running_up import Up

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(ROOT, data=tmp_path_factory.mktemp("tour") / "data", env={})
    try:
        running.wait_for("ready (")
        yield running
    finally:
        running.close()


def tour_blocks() -> list[tuple[str, str]]:
    """(fence language, content) of the tour's section, in order."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## A five-minute tour")[1].split("\n## ")[0]
    blocks = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    assert [language for language, _ in blocks].count("sh") >= 4, "the tour lost its commands"
    return blocks


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Ours, with a stand-in for curl where the machine has none."""
    if shutil.which("curl"):
        return dict(os.environ)
    stand_in = tmp_path / "curl"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/support/curl.py" "$@"\n')
    stand_in.chmod(0o755)
    return dict(os.environ) | {"PATH": os.pathsep.join([str(tmp_path), os.environ.get("PATH", os.defpath)])}


def test_the_tour_prints_what_the_readme_shows(up: Up, environment: dict[str, str]) -> None:
    notes = re.search(r"http://localhost:(\d+)/notes", up.output)
    assert notes is not None
    script, expected = "set -u\n", []
    for language, content in tour_blocks():
        if language == "sh":
            script += content + "\necho '---8<---'\n"
        else:
            expected.append(content.strip().splitlines())
    script = script.replace("localhost:7072", f"localhost:{notes[1]}").replace("localhost:7071", f"localhost:{up.port}")
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = [part.strip().splitlines() for part in done.stdout.split("---8<---\n")[:-1]]
    assert len(printed) == len(expected)
    for shown, real in zip(expected, printed, strict=True):
        assert _matches(shown, real), f"the README shows\n{shown}\nand the command printed\n{real}"


def _matches(shown: list[str], real: list[str]) -> bool:
    """Line by line; `...` alone stands for any lines, inside a line for any text."""
    pattern = "\n".join(r"(?:.*\n?)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") for line in shown)
    return re.fullmatch(pattern.replace(r"(?:.*\n?)*?" + "\n", r"(?:.*\n)*?"), "\n".join(real)) is not None
