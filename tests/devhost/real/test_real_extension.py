"""Runs the engine's tests on the extension itself, and compares what it does with the recordings.

For another version: change it in `extension/real.csproj`, run this test, and where it tells of differences decide for
each whether our engine follows. REAL_RECORDINGS=folder keeps what it recorded, in the form of `recordings/`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.devhost.real.comparing import CUT_SHORT, RECORDED_TESTS
from tests.devhost.real.episodes import RECORDINGS, differences

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dotnet") is None, reason="no .NET here: the recordings stand for the extension")
def test_the_extension_does_what_was_recorded(tmp_path: Path, storage_url: str) -> None:
    project = Path(__file__).parent / "extension" / "real.csproj"
    built = tmp_path / "built"
    build = [
        "dotnet",
        "build",
        str(project),
        "-c",
        "Release",
        "-o",
        str(built),
        f"-p:BaseIntermediateOutputPath={tmp_path}/obj/",
    ]
    subprocess.run(build, check=True)
    fresh = Path(os.environ.get("REAL_RECORDINGS", tmp_path / "recordings"))
    given = {"REAL_DLL": str(built / "real.dll"), "REAL_STORAGE": storage_url, "REAL_RECORDINGS": str(fresh)}
    plugin = ["-p", "tests.devhost.real.real_host", "-p", "no:cacheprovider", "-p", "no:xdist", "-q"]
    # Tests that fail on the extension are those of `devhost/durable/fidelity.py`; what counts is what they recorded.
    subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, *map(str, RECORDED_TESTS)],
        cwd=ROOT,
        env={**os.environ, **given},
        check=False,
    )
    told = []
    for path in sorted((RECORDINGS / "episodes").glob("*.json")):
        again = fresh / "episodes" / path.name
        if not again.is_file():
            told.append(f"{path.stem}: was not recorded again")
        elif path.stem not in CUT_SHORT:
            found = differences(json.loads(path.read_text()), json.loads(again.read_text()))
            told += [f"{path.stem}{one}" for one in found]
    for name, key in (("answers.json", "call"), ("observed.json", "case")):
        entries = {entry[key]: entry for entry in json.loads((fresh / name).read_text())}
        for entry in json.loads((RECORDINGS / name).read_text()):
            told += [f"{entry[key]}{one}" for one in differences([entry], [entries.get(entry[key], {})])]
    assert not told, "\n".join(told)
