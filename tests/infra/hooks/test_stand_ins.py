"""What the other tests here lean on: the stand-in refuses what `az` lacks, and a line that no test ran is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.hooks.cloud import HOOKS, Cloud, lines_that_never_ran


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("ad app list --name x", 2, "unrecognized arguments: --name"),
        ("vault list", 2, "is misspelled or not recognized by the system"),
        ("ad sp update --id x --set a=true", 3, "Resource 'x' does not exist"),
        ("resource list --resource-group x", 3, "Resource group 'x' could not be found"),
    ],
)
def test_the_stand_in_answers_as_az_does(cloud: Cloud, command: str, code: int, told: str) -> None:
    done = cloud.command(["az", *command.split()])
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_a_line_that_no_test_ran_is_seen(cloud: Cloud, tmp_path: Path) -> None:
    cloud.trace = tmp_path / "own"
    cloud.run("preflight.py", "deploy", TRACED=str(cloud.trace))
    source = (HOOKS / "preflight.py").read_text("utf-8").splitlines()
    missing = lines_that_never_ran(cloud.trace, "preflight.py")

    never = {source[int(line.partition(":")[2]) - 1].strip() for line in missing}
    assert {'for vault in az("keyvault", "list-deleted", "--resource-type", "vault", *where):'} <= never
    assert not {"yield from _package(given)", "import os"} & never


def test_every_hook_has_a_test_that_counts_its_lines() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    counted = " ".join(line for line in tests.splitlines() if "lines_that_never_ran(trace" in line)
    counted += " ".join(line for line in tests.splitlines() if line.startswith("HOOK = "))
    assert [path.name for path in HOOKS.glob("*.py") if f'"{path.name}"' not in counted] == []
    assert [path.name for path in HOOKS.glob("*.sh")] == ["database.sh"], "which has no branches"
