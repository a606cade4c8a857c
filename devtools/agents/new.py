"""`./dev new tool NAME`, `workflow NAME` and `agent NAME`: a file to begin with, and a test of it that passes."""

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

_WORKFLOW = '''"""{title}."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Annotated, Any

import azure.durable_functions as df
from pydantic import Field

from parley.workflows import ToolArguments, caller_of, progress, workflow

bp = df.Blueprint()


class {model}(ToolArguments):
    text: Annotated[str, Field(max_length=200, description="What to work on")]


@bp.orchestration_trigger(context_name="context")
@workflow(arguments={model})  # a person approves each call; risks=() says that it only works here
def {name}(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
    """Say in one sentence, for the model, what this workflow does and when to use it."""
    given = context.get_input()
    yield progress(context, "the first step is done", 0.5)
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=10))  # or days
    who = caller_of(context).user_id
    done: str = yield context.call_activity("{name}_step", {{"text": given["text"], "user_id": who}})
    return done


@bp.activity_trigger(input_name="step")
def {name}_step(step: dict[str, Any]) -> str:
    """What has an effect is done in an activity. It may run twice, after a crash."""
    return f"{{step['user_id']}} asked for {{step['text']}}"
'''

_WORKFLOW_TEST = '''"""The workflow {name}."""

from __future__ import annotations

import pytest

from parley.testing import InvalidToolArguments, run_workflow

from ..workflows.{name} import {name}


async def test_it_ends_with_what_its_last_step_says() -> None:
    told: list[str] = []

    output = await run_workflow({name}, {{"text": "a word"}}, user_id="alice", progress=told)

    assert output.content == "alice asked for a word"
    assert told == ["the first step is done"]


async def test_it_takes_no_more_than_it_needs() -> None:
    with pytest.raises(InvalidToolArguments):
        await run_workflow({name}, {{"text": "x" * 201}})
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
        prog="./dev new", description="Write a tool, a workflow or an agent to begin with, and its test."
    )
    parser.add_argument("kind", choices=("tool", "workflow", "agent"))
    parser.add_argument("name", help="of the tool or workflow, such as find_order; of the agent, such as support")
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
    """Write the file and its test; returns their paths. kind: `tool`, `workflow` or `agent`. Raises Refused."""
    title = re.sub(r"[_.-]+", " ", name).strip().capitalize()
    if kind == "tool":
        _check_tool(name, folder)
        values = {"name": name, "title": title}
        files = {
            folder / "tools" / f"{name}.py": _TOOL.format(**values),
            folder / "tests" / f"test_{name}.py": _TOOL_TEST.format(**values),
        }
    elif kind == "workflow":
        _check_tool(name, folder, kind)
        model = "".join(part.capitalize() for part in name.split("_")) + "Input"
        values = {"name": name, "title": title, "model": model}
        files = {
            folder / "workflows" / f"{name}.py": _WORKFLOW.format(**values),
            folder / "tests" / f"test_{name}.py": _WORKFLOW_TEST.format(**values),
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


def _check_tool(name: str, folder: Path, kind: str = "tool") -> None:
    from shared.sessions.tools import registry

    if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is None or keyword.iskeyword(name):
        raise Refused(
            f"{name!r} cannot be a {kind}'s name: it begins with a letter, then come a-z, 0-9 and _, such as find_order"
        )
    taken = [tool.name for tool in registry.all_tools()]
    if folder.is_dir():
        taken += asyncio.run(look(folder.resolve())).tools
    if kind == "workflow" and name in registry.DURABLE_FUNCTIONS:
        raise Refused(f"Parley itself has a function {name!r}: choose another name")
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
