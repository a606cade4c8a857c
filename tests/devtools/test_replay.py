"""`./dev replay` as a program: the shipped cases, and what it says once agents, tools or cases differ."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from devtools.cases.replay import main

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "examples" / "support"
CASES = SUPPORT / "cases"
pytestmark = pytest.mark.integration


def _replay(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "devtools", "replay", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _edit(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text("utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    file.write_text(text, "utf-8")


def test_the_shipped_agents_do_what_the_ten_shipped_cases_say(
    postgres_url: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole suite in CI: no key, no network, and no setting of the machine is read."""
    own = ("--postgres", postgres_url, "--redis", redis_url)
    junit = tmp_path / "junit.xml"
    done = _replay(CASES, "--agents", SUPPORT, "--junit", junit, *own, POSTGRES_URL="nowhere", AUTH_MODE="no")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "replay: 10 of 10 cases go as they were recorded"
    cases = ElementTree.parse(junit).getroot().findall(".//testcase")
    assert len(cases) == len(list(CASES.glob("*.case.yaml"))) == 10
    assert not [case for case in cases if case.find("failure") is not None]

    # Cases are no guests in a database that has sessions: by now this one has.
    assert main([str(CASES), "--agents", str(SUPPORT), *own]) == 2
    assert "the database of --postgres has sessions" in capsys.readouterr().err


def test_what_changed_is_told_case_by_case(tmp_path: Path) -> None:
    """On servers of its own."""
    agents, cases = tmp_path / "agents", tmp_path / "cases"
    shutil.copytree(SUPPORT, agents, ignore=shutil.ignore_patterns("tests", "cases", "__pycache__"))
    shutil.copytree(CASES, cases)
    _edit(
        agents / "support.md",
        ("forbid_self_approval: true", "forbid_self_approval: true\n    quorum: 2"),
        ("You are the support of a web shop.", "You are the support of a book shop."),
    )
    _edit(agents / "tools" / "refund.py", ("le=10_000", "le=1_000"))
    _edit(cases / "structured-output.case.yaml", ("      - city\n", "      - city\n      - country\n"))
    _edit(cases / "tool-call.case.yaml", ("status: completed", "status: rejected"))

    # A tool of back then that is gone today.
    later = cases / "deferred-result.case.yaml"
    later.write_text(later.read_text("utf-8").replace("ask_warehouse", "ask_depot"), "utf-8")

    done = _replay(cases, "--agents", agents)
    assert done.returncode == 1, done.stderr
    told = _by_case(done.stdout)

    first = (
        "You are the support of a web shop. You answer questions about the orders of the customer who writes to you."
    )
    # Somebody stood in for the second approver, so the rest was played.
    assert told["Approval given"] == [
        f"~ instructions: prompt: {first} -> {first.replace('web', 'book')}",
        "~ tool refund: prompt: as recorded -> its parameters changed",
        "! turn 1, refund: approvals: asks 1 of approver -> asks 2 of approver",
    ]
    # The recorded arguments do not fit the tool any more: nobody is asked, and the model reads what it never answered.
    two = "\n".join(told["Two approvers"])
    assert "! turn 1, refund: approvals: asks 2 of finance -> nobody is asked" in two
    assert "! turn 1, refund: results: completed 1200.00 EUR were paid back" in two
    assert "-> failed INVALID_TOOL_ARGS" in two
    assert "! turn 1: not recorded: the model was asked after the result of refund:" in two
    assert "-> failed, LLM_ERROR: The recording has no answer to this." in two
    # A rejection by one person stays one.
    assert "! turn 1, refund: approvals: asks 1 of approver -> asks 2 of approver" in told["Approval denied"]
    assert not any("end:" in line for line in told["Approval denied"])
    assert any("calculate {" in line and "has no recorded result" in line for line in told["Tool call"])
    assert any("not recorded: the model was asked after" in line for line in told["Structured output"])
    gone = "\n".join(told["Deferred result"])
    assert "~ tool ask_depot: prompt: offered -> not offered" in gone
    assert "! turn 1, ask_depot: results: completed The parcel came back yesterday" in gone
    assert "-> failed TOOL_NOT_FOUND There is no tool named 'ask_depot'." in gone
    # Notes alone do not fail a case, unless --strict says so.
    assert told["Tool failure"] == told["Approval given"][:2]
    assert "same    Tool failure" in done.stdout


def _by_case(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines()[:-1]:
        if not line.startswith(" "):
            found[line.split("  (")[0].split(maxsplit=1)[1]] = []
        else:
            found[list(found)[-1]].append(line.strip())
    return found


def test_what_cannot_be_played_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        (["nowhere.case.yaml"], "nowhere.case.yaml: No such file"),
        ([str(CASES), "--agents", "nowhere"], "nowhere is no folder with agents"),
        ([str(CASES / "plain-answer.case.yaml"), "--junit", "/nowhere/at.xml", "--agents", "nowhere"], "nowhere"),
    ):
        assert main(arguments) == 2
        assert why in capsys.readouterr().err
