"""`./dev new tool NAME` and `./dev new agent NAME`: a file to begin with, and a test of it that passes."""

from __future__ import annotations

import argparse
import asyncio
import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools.agents.look import look
from devtools.setup.places import ROOT

FOLDER = Path(ROOT) / "agents"

_TOOL = '''"""{title}."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from parley.tools import ToolContext, tool

Text = Annotated[str, Field(max_length=200, description="What to look for")]


@tool(idempotent=True)  # it only looks; without this, a person approves each call
def {name}(text: Text, call: ToolContext) -> str:
    """Say in one sentence, for the model, what this tool does and when to use it."""
    return f"{{call.user_id}} asked for {{text}}"
'''

_TOOL_TEST = '''"""The tool {name}."""

from __future__ import annotations

import pytest

from parley.testing import InvalidToolArguments, call_tool

from ..tools.{name} import {name}


async def test_it_answers_what_was_asked_for() -> None:
    output = await call_tool({name}, {{"text": "a word"}}, user_id="alice")

    assert output.content == "alice asked for a word"


async def test_it_takes_no_more_than_it_needs() -> None:
    with pytest.raises(InvalidToolArguments):
        await call_tool({name}, {{"text": "x" * 201}})
'''

_AGENT = """---
name: {title}
description: What people see when they choose an agent
tools: [calculate, current_time]
---
You are {title}. Say here what you do, for whom, and what you leave to others.

Be brief. Say so when you do not know something.
"""

_AGENT_TEST = '''"""The agent {name}."""

from __future__ import annotations

from pathlib import Path

from parley.testing import read_agent

FILE = Path(__file__).parents[1] / "{name}.md"


def test_it_is_an_agent_with_tools_that_are_there() -> None:
    agent = read_agent(FILE)

    assert agent.tools == ["calculate", "current_time"]
'''


class Refused(Exception):
    """Nothing was written; the message says why."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev new", description="Write a tool or an agent to begin with, and its test."
    )
    parser.add_argument("kind", choices=("tool", "agent"))
    parser.add_argument("name", help="of the tool, such as find_order; of the agent, such as support")
    parser.add_argument("--agents", type=Path, default=FOLDER, metavar="DIR", help="the folder (agents)")
    options = parser.parse_args(arguments)
    try:
        written = new(options.kind, options.name, options.agents)
    except Refused as reason:
        print(f"dev: {reason}", file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {_shown(path)}")
    print(f"next: ./dev test {_shown(written[-1])}, and ./dev up runs it")
    if options.kind == "agent":
        print("later: ./dev record SESSION makes a test of a conversation with it, which ./dev replay plays")
    return 0


def new(kind: str, name: str, folder: Path = FOLDER) -> list[Path]:
    """Write the file and its test; returns their paths. kind: `tool` or `agent`. Raises Refused."""
    title = re.sub(r"[_.-]+", " ", name).strip().capitalize()
    if kind == "tool":
        _check_tool(name, folder)
        values = {"name": name, "title": title}
        files = {
            folder / "tools" / f"{name}.py": _TOOL.format(**values),
            folder / "tests" / f"test_{name}.py": _TOOL_TEST.format(**values),
        }
    else:
        _check_agent(name)
        test = re.sub(r"\W", "_", name.lower())
        files = {
            folder / f"{name}.md": _AGENT.format(title=title),
            folder / "tests" / f"test_agent_{test}.py": _AGENT_TEST.format(name=name),
        }
    for path in files:
        if path.exists():
            raise Refused(f"{_shown(path)} is there already: choose another name")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(files)


def _check_tool(name: str, folder: Path) -> None:
    from shared.sessions.tools import registry

    if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is None or keyword.iskeyword(name):
        raise Refused(
            f"{name!r} cannot be a tool's name: it begins with a letter, then come a-z, 0-9 and _, such as find_order"
        )
    taken = [tool.name for tool in registry.all_tools()]
    if folder.is_dir():
        taken += asyncio.run(look(folder.resolve())).tools
    if name in taken:
        raise Refused(f"there is a tool {name!r} already: choose another name")


def _check_agent(name: str) -> None:
    from shared.ids import is_valid_id

    if not is_valid_id(name) or name == "README":
        raise Refused(
            f"{name!r} cannot be an agent's id: 1 to 64 of letters, digits, '_', '.' and '-', such as support"
        )


def _shown(path: Path) -> str:
    return str(path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path)
