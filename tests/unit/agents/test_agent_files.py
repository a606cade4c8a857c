"""Agents that are files: settings and instructions, and what is wrong with a file in one line."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.sessions.agents.agent import AgentSource, AgentSourceKind
from shared.sessions.agents.file_versions import replaces
from shared.sessions.agents.files import read_agents
from shared.sessions.records.approval_policy import Containment

SUPPORT = """---
name: Support
description: Helps customers
model: big
tools: [calculate, http_request]
policies:
  http_request:
    required: true
    quorum: 2
approval_floor:
  http_request: manual
defaults:
  reasoning_effort: low
  max_turn_cost_usd: 0.5
containment: off
---

# You help customers

Be brief.
---
The line above is yours.
"""


def read(tmp_path: Path, text: str | bytes, name: str = "support.md") -> tuple[list[str], list[str]]:
    """The ids of the agents, and the problems."""
    folder = tmp_path / "agents"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    found, problems = read_agents(folder)
    return [file.id for file in found], [str(each) for each in problems]


def test_a_file_is_the_agent_that_a_request_with_the_same_names_would_make(tmp_path: Path) -> None:
    read(tmp_path, SUPPORT)

    ((file,), problems) = read_agents(tmp_path / "agents")

    assert problems == []
    assert (file.id, file.path) == ("support", "agents/support.md")
    assert file.sha256 == hashlib.sha256(SUPPORT.encode()).hexdigest()
    assert file.body.instructions == "# You help customers\n\nBe brief.\n---\nThe line above is yours."
    assert file.body.containment is Containment.OFF, "YAML 1.2: off is text"
    assert file.body.model_dump(mode="json", exclude_unset=True) == {
        "name": "Support",
        "description": "Helps customers",
        "instructions": file.body.instructions,
        "model": "big",
        "tools": ["calculate", "http_request"],
        "policies": {"http_request": {"required": True, "quorum": 2}},
        "approval_floor": {"http_request": "manual"},
        "defaults": {"reasoning_effort": "low", "max_turn_cost_usd": 0.5},
        "containment": "off",
    }


def test_an_agent_without_a_name_has_the_files(tmp_path: Path) -> None:
    read(tmp_path, "\ufeff---\r\n---\r\nHelp.\r\n")

    ((file,), problems) = read_agents(tmp_path / "agents")

    assert (file.body.name, file.body.instructions, problems) == ("support", "Help.", [])


@pytest.mark.parametrize("name", ["README.md", "_draft.md", ".hidden.md", "notes.txt"])
def test_other_files_are_no_agents(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, "Nothing of an agent.", name) == ([], [])


WRONG = {
    "no_settings": ("You help.\n", ":1: must begin with its settings between two lines of ---"),
    "no_end": ("---\nname: x\nYou help.\n", ":1: the settings have no end: a line of --- is missing"),
    "no_instructions": ("---\nname: x\n---\n \n", ":3: has no instructions below its settings"),
    "twice": ("---\nname: x\ninstructions: y\n---\nz\n", ":3: instructions: they are the text below the settings"),
    "not_yaml": ("---\nname: x\ntools: [a\n---\nz\n", ":"),
    "a_list": ("---\n- name\n---\nz\n", ":2: the settings must be lines of NAME: VALUE"),
    "duplicate": ("---\nname: x\nname: y\n---\nz\n", ":3: the settings are not YAML: found duplicate key"),
    "typo": ("---\nname: x\nmodle: big\n---\nz\n", ":3: modle: there is no such setting"),
    "type": ("---\nname: x\n\nvision: perhaps\n---\nz\n", ":4: vision: Input should be a valid boolean"),
    "deep": (
        "---\npolicies:\n  http_request:\n    quorum: 0\n---\nz\n",
        ":4: policies.http_request.quorum: Input should be greater than or equal to 1",
    ),
    "element": ("---\ntools:\n  - calculate\n  - [x]\n---\nz\n", ":4: tools.1: Input should be a valid string"),
    "nul": ("---\nname: x\n---\na\x00b\n", ":4: instructions: is blank or contains U+0000"),
    "expiry": (
        "---\ndefaults:\n  expires_after_seconds: 60\n---\nz\n",
        ":3: defaults.expires_after_seconds: set it on",
    ),
    "latin": (b"---\nname: caf\xe9\n---\nz\n", ":2: is not UTF-8"),
    "large": ("---\n---\n" + "x" * 300_000, ": is larger than 256 KB"),
    "long": ("---\n---\n" + "x" * 40_000, ":3: instructions: String should have at most 32000 characters"),
    "date": ("---\nname: 2026-01-01\n---\nz\n", ":2: name: Input should be a valid string"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_file_is_one_line_and_the_others_are_agents(tmp_path: Path, kind: str) -> None:
    text, told = WRONG[kind]
    read(tmp_path, SUPPORT, "a_good_one.md")

    found, problems = read(tmp_path, text)

    assert found == ["a_good_one"]
    assert len(problems) == 1
    assert problems[0].startswith(f"agents/support.md{told}")
    assert problems[0].isprintable()


def test_a_name_that_is_no_id_is_told(tmp_path: Path) -> None:
    found, (problem,) = read(tmp_path, SUPPORT, "my agent.md")

    assert found == []
    assert problem.startswith("agents/my agent.md: the file's name is the agent's id")


def test_an_agent_that_names_a_tool_that_is_not_there_goes_without_it_and_says_so(tmp_path: Path) -> None:
    text = "---\ntools:\n  - calculate\n  - refund\npolicies:\n  refund: {quorum: 2}\n---\nz\n"

    assert read(tmp_path, text) == (
        ["support"],
        ["agents/support.md:4: tools.1: unknown tool", "agents/support.md:6: policies.refund: unknown tool"],
    )
    ((file,), _) = read_agents(tmp_path / "agents")
    assert file.body.tools == ["calculate", "refund"]


# Whether a file becomes a version. ---------------------------------------------------------------

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def source(sha256: str, packaged_at: datetime | None = None) -> AgentSource:
    return AgentSource(kind=AgentSourceKind.FILE, path="agents/a.md", sha256=sha256, packaged_at=packaged_at)


@pytest.mark.parametrize(
    ("file", "last", "expected"),
    [
        (source("new"), None, True),
        (source("same"), source("same"), False),
        (source("new"), source("old"), True),
        # A package built later wins, whichever instance starts last.
        (source("new", LATER), source("old", NOON), True),
        (source("old", NOON), source("new", LATER), False),
        (source("same", LATER), source("same", NOON), False),
        # Of two packages of one moment the first one stays; neither undoes the other.
        (source("new", NOON), source("old", NOON), False),
        # A checkout is not built: what lies there counts.
        (source("new"), source("old", LATER), True),
        (source("new", NOON), source("old"), True),
    ],
)
def test_a_file_becomes_a_version_when_it_has_changed_and_no_later_package_came(
    file: AgentSource, last: AgentSource | None, expected: bool
) -> None:
    assert replaces(file, last) is expected
