"""Agents as files: `agents/NAME.md` holds the settings of the agent NAME as YAML, and below them its instructions.

    ---
    name: Support
    tools: [find_order, refund]
    defaults:
      reasoning_effort: low
    ---
    You help customers with their orders.

The settings are those of `PUT /agents/{agent_id}`, under the same names. What is wrong with a file is one line that
names file and line; the other files count all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from shared.ids import is_valid_id
from shared.sessions.agents.agent import NewAgent, faults_of
from shared.sessions.tools.modules.problems import Problem, problem, shown_path

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

_MARK = "---"
_MAX_BYTES = 256 * 1024
"""Instructions end at a fraction of it (`MAX_INSTRUCTIONS_CHARS`)."""
_MAX_TOLD = 5
"""Faults that are told of one file."""
_IGNORED = "README.md"

type Place = tuple[str | int, ...]
"""Where in the settings: `("tools", 2)`."""


@dataclass(frozen=True, slots=True)
class AgentFile:
    """One file without fault."""

    id: str
    path: str
    """From the folder's name on: `agents/support.md`."""
    sha256: str
    """Of the file's bytes, in hexadecimal."""
    body: NewAgent


def agent_files(folder: Path) -> list[Path]:
    """The files of a folder that each are to be an agent, by name."""
    return sorted(
        file for file in folder.glob("*.md") if file.name != _IGNORED and not file.name.startswith(("_", "."))
    )


def read_agents(folder: Path) -> tuple[list[AgentFile], list[Problem]]:
    """The agents of a folder, by name, and what is wrong with its files. A tool that is not there is told and no fault:
    the agent goes without it, as it does with what was stored earlier."""
    found: list[AgentFile] = []
    problems: list[Problem] = []
    for file in agent_files(folder):
        agent, faults = _read(folder, file)
        problems += faults[:_MAX_TOLD]
        if agent is not None:
            found.append(agent)
    return found, problems


def _read(folder: Path, file: Path) -> tuple[AgentFile | None, list[Problem]]:
    def fault(text: str, line: int | None = None) -> list[Problem]:
        return [problem(folder, file, text, line)]

    if not is_valid_id(file.stem):
        return None, fault("the file's name is the agent's id: 1 to 64 of letters, digits, '_', '.' and '-'")
    try:
        raw = file.read_bytes()
        text = raw[: _MAX_BYTES + 1].decode("utf-8-sig")
    except OSError as exc:
        return None, fault(f"cannot be read: {exc.strerror}")
    except UnicodeDecodeError as exc:
        return None, fault("is not UTF-8", raw.count(b"\n", 0, exc.start) + 1)
    if len(raw) > _MAX_BYTES:
        return None, fault(f"is larger than {_MAX_BYTES // 1024} KB")
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != _MARK:
        return None, fault("must begin with its settings between two lines of ---", 1)
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _MARK), None)
    if end is None:
        return None, fault("the settings have no end: a line of --- is missing", 1)
    settings, places, broken = _settings(folder, file, "\n".join(lines[1:end]))
    if broken is not None:
        return None, [broken]
    instructions = "\n".join(lines[end + 1 :]).strip()
    if "instructions" in settings:
        return None, fault("instructions: they are the text below the settings", places.get(("instructions",)))
    if not instructions:
        return None, fault("has no instructions below its settings", end + 1)
    try:
        body = NewAgent.model_validate({"name": file.stem} | settings | {"instructions": instructions})
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False, include_context=False)
        return None, [
            problem(folder, file, _told(error["type"], error["loc"], error["msg"]), _line(places, error["loc"], end))
            for error in errors
        ]
    faults = faults_of(body)
    told = [
        problem(folder, file, f"{'.'.join(map(str, one.place))}: {one.text}", _line(places, one.place, end))
        for one in faults
    ]
    if any(not one.is_missing_tool for one in faults):
        return None, told
    return AgentFile(file.stem, shown_path(folder, file), hashlib.sha256(raw).hexdigest(), body), told


def _settings(folder: Path, file: Path, text: str) -> tuple[dict[str, Any], Mapping[Place, int], Problem | None]:
    """The settings, and the line of the file that each stands in."""
    # Imported only where there is an agent: an app without one pays nothing for it.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)  # YAML 1.2: `off` and `no` are text
    try:
        value = yaml.load(text)
        node = yaml.compose(text)
    except YAMLError as exc:
        mark = exc.problem_mark if isinstance(exc, MarkedYAMLError) else None
        said = exc.problem if isinstance(exc, MarkedYAMLError) else str(exc)
        told = problem(folder, file, f"the settings are not YAML: {said}", None if mark is None else mark.line + 2)
        return {}, {}, told
    if value is None:
        return {}, {}, None
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return {}, {}, problem(folder, file, "the settings must be lines of NAME: VALUE", 2)
    return value, dict(_places(node, ())), None


def _places(node: Node, place: Place) -> Iterator[tuple[Place, int]]:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, MappingNode):
        for key, inner in node.value:
            yield (*place, key.value), key.start_mark.line + 2  # lines count from 0, and the first one is the mark
            yield from _places(inner, (*place, key.value))
    elif isinstance(node, SequenceNode):
        for number, inner in enumerate(node.value):
            yield (*place, number), inner.start_mark.line + 2
            yield from _places(inner, (*place, number))


def _line(places: Mapping[Place, int], place: Place, end: int) -> int | None:
    """The line of the innermost setting that is written there; else of the instructions, else of nothing."""
    if place[:1] == ("instructions",):
        return end + 2
    for length in range(len(place), 0, -1):
        if place[:length] in places:
            return places[place[:length]]
    return None


def _told(kind: str, place: Place, text: str) -> str:
    name = ".".join(str(part) for part in place)
    if kind == "extra_forbidden":
        return f"{name}: there is no such setting"
    return f"{name}: {text.removeprefix('Value error, ')}"
