"""What is in a folder of agents and tools, and what is wrong with it, by importing it as the app does.

In a process of its own, since the tools are somebody's code: it may take long, never end, or end the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from devtools.setup.places import ROOT

_LIMIT_S = 90.0
"""Longer than the app gives all modules together (`importing.ALL_S`)."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at a folder."""

    tools: tuple[str, ...]
    """Names of its own tools."""
    agents: tuple[str, ...]
    """Ids of the agents whose files have no fault."""
    problems: tuple[str, ...]
    """One line each."""
    functions: tuple[str, ...] = ()
    """Names of the functions of its workflows, which an app registers when it starts."""


async def look(folder: Path, environment: Mapping[str, str] | None = None) -> Looked:
    """Never raises for what is in the folder. environment: the app's; None: this process's."""
    with tempfile.NamedTemporaryFile(prefix="agents-", suffix=".json") as result:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "devtools.agents.look", str(folder), result.name),
            cwd=ROOT,
            env=dict(os.environ if environment is None else environment),
            stdin=asyncio.subprocess.DEVNULL,
            # What a module prints while it is imported is for the log of the app.
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_LIMIT_S):
                _, errors = await process.communicate()
        except TimeoutError:
            return Looked((), (), (f"{folder.name}: its tools cannot be imported within {_LIMIT_S:.0f} s",))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            found = json.load(result)
        except ValueError:
            said = errors.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"code {process.returncode}"
            return Looked((), (), (f"{folder.name}: importing its tools ended the process: {why}",))
    return Looked(*(tuple(found[name]) for name in ("tools", "agents", "problems", "functions")))


def _main(folder: Path, result: Path) -> None:
    from shared.sessions.agents.files import read_agents
    from shared.sessions.tools import registry

    registry.take_from(folder)
    tools = [tool.name for tool in registry.all_tools() if registry.path_of(tool.name) is not None]
    agents, problems = read_agents(folder)
    lines = [str(problem) for problem in (*registry.problems(), *problems)]
    functions = sorted(builder._function.get_function_name() for builder in registry.workflows().builders)
    found = Looked(tuple(tools), tuple(agent.id for agent in agents), tuple(lines), tuple(functions))
    result.write_text(json.dumps(asdict(found)), "utf-8")
    # Not an ordinary end: a thread that a module has started would keep the process.
    os._exit(0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
