"""The commands of a page, as a reader copies them, and what it says they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.devtools.running_up import Up

ROOT = Path(__file__).resolve().parents[3]
_CUT = "---8<---"


def environment_of_a_reader(folder: Path) -> dict[str, str]:
    """Ours, with a stand-in for curl in that folder where the machine has none."""
    if shutil.which("curl"):
        return dict(os.environ)
    stand_in = folder / "curl"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/support/curl.py" "$@"\n')
    stand_in.chmod(0o755)
    return dict(os.environ) | {"PATH": os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])}


def blocks_of(page: str, section: str) -> list[tuple[str, str]]:
    """(fence language, content) of a section of a page, in order; `sh` is what runs, and `text` what it prints."""
    text = (ROOT / page).read_text("utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return [block for block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) if block[0] in {"sh", "text"}]


def prints_what_is_shown(up: Up, blocks: list[tuple[str, str]], environment: dict[str, str], *, cwd: Path) -> None:
    """Run the commands, and compare what each block prints with the block after it."""
    script, expected = "set -u\n", []
    for language, content in blocks:
        if language == "sh":
            script += content + f"\necho '{_CUT}'\n"
        else:
            expected.append(content.strip().splitlines())
    notes = re.search(r"http://localhost:(\d+)/notes", up.output)
    if notes is not None:
        script = script.replace("localhost:7072", f"localhost:{notes[1]}")
    script = script.replace("localhost:7071", f"localhost:{up.port}").replace(" .data/", f" {up.data}/")
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = [part.strip().splitlines() for part in done.stdout.split(f"{_CUT}\n")[:-1]]
    assert len(printed) == len(expected)
    for shown, real in zip(expected, printed, strict=True):
        assert _matches(shown, real), f"the page shows\n{shown}\nand the command printed\n{real}"


def _matches(shown: list[str], real: list[str]) -> bool:
    """Line by line; `...` alone stands for any lines, inside a line for any text."""
    pattern = "\n".join(r"(?:.*\n?)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") for line in shown)
    return re.fullmatch(pattern.replace(r"(?:.*\n?)*?" + "\n", r"(?:.*\n)*?"), "\n".join(real)) is not None
