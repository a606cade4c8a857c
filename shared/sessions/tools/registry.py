"""The registry of tools, by name: every `Tool` in the modules of `builtin/`, and those in the folder `agents/`.

Invariant: names are unique, and a process never changes its tools once it has them. The order is the same in every
process, since the provider's prompt cache and stored plans depend on it.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from shared.errors import ErrorCode, NotFound
from shared.sessions.tools import builtin as package
from shared.sessions.tools.base import (
    MAX_ERROR_CHARS,
    READS,
    InvalidToolArguments,
    Tool,
    ToolApproval,
    ToolArguments,
    ToolContext,
    ToolOutput,
    ToolRisk,
    fetched_address,
    tool,
    validate_arguments,
)
from shared.sessions.tools.modules.importing import NOTHING, Imported, import_tools, make_packages, module_files
from shared.sessions.tools.modules.problems import Problem
from shared.sessions.tools.modules.workflows import NOTHING as NO_WORKFLOWS
from shared.sessions.tools.modules.workflows import Workflows, import_workflows, workflow_files
from shared.sessions.tools.services import FetchRequest, FetchResponse, HttpFetcher, ToolServices
from shared.work_pool import in_own_thread

__all__ = [
    "MAX_ERROR_CHARS",
    "READS",
    "FetchRequest",
    "FetchResponse",
    "HttpFetcher",
    "InvalidToolArguments",
    "Tool",
    "ToolApproval",
    "ToolArguments",
    "ToolContext",
    "ToolOutput",
    "ToolRisk",
    "ToolServices",
    "all_tools",
    "fetched_address",
    "find_tool",
    "get_tool",
    "path_of",
    "problems",
    "ready",
    "take_from",
    "tool",
    "validate_arguments",
    "workflows",
]

log = logging.getLogger("parley.tools")

DURABLE_FUNCTIONS = (
    "turn",
    "approval",
    "wait",
    "keeper",
    "notification",
    "call_model",
    "request_approval",
    "notify_approvers",
    "give_notice",
    "execute_tool",
    "finish_turn",
    "begin_workflow",
    "tell_progress",
    "end_workflow",
)
"""Parley's own (`durable/names.py`, which stands below this): no workflow may have their names."""


def all_tools() -> tuple[Tool, ...]:
    """Every tool, sorted by name."""
    return tuple(_tools().values())


def find_tool(name: str) -> Tool | None:
    """The tool of that name, or None."""
    return _tools().get(name)


def get_tool(name: str) -> Tool:
    """The tool of that name. Raises NotFound (TOOL_NOT_FOUND)."""
    found = find_tool(name)
    if found is None:
        raise NotFound(ErrorCode.TOOL_NOT_FOUND, f"There is no tool named {name[:64]!r}.")
    return found


def path_of(name: str) -> str | None:
    """The file that the tool of that name came from, such as `agents/tools/refund.py`; None: it is built in."""
    _tools()
    return _yours.paths.get(name) or _workflows.paths.get(name)


def problems() -> tuple[Problem, ...]:
    """What is wrong with the tools of the folder, once they were imported: these are left out."""
    return (*_workflows.problems, *_yours.problems)


def workflows(taken: Collection[str] = ()) -> Workflows:
    """The workflows of the folder, imported when they are first asked for. Raises nothing of theirs.

    taken: names of functions of the app.
    """
    global _workflows, _has_workflows
    with _loading:
        if not _has_workflows and _folder is not None and workflow_files(_folder):
            make_packages(_folder)
            names = {name.casefold() for name in (*taken, *DURABLE_FUNCTIONS)}
            _workflows = import_workflows(_folder, taken_tools=_built_in().keys(), taken_functions=names)
            for each in _workflows.problems:
                log.error("%s", each)
        _has_workflows = True
        return _workflows


def take_from(folder: Path | None, *, then: Callable[[Collection[Tool]], None] | None = None) -> None:
    """Say where the tools lie that are not built in; None: nowhere. They are imported on first use.

    then: called with all tools once they are there.
    """
    global _folder, _then, _found, _yours, _workflows, _has_workflows
    with _loading:
        _folder, _then, _found, _yours = folder, then, None, NOTHING
        _workflows, _has_workflows = NO_WORKFLOWS, False


async def ready() -> None:
    """Import the tools of the folder without blocking the event loop. Whoever is about to use tools waits here."""
    global _importing
    if _found is not None:
        return
    if _folder is None or not (module_files(_folder) or workflow_files(_folder)):
        _tools()  # the built-in ones alone, in milliseconds
        return
    # A thread of its own, and one for all who wait: the import takes as long as somebody's code wants.
    loop = asyncio.get_running_loop()
    if _importing is None or _importing.done() or _importing.get_loop() is not loop:
        _importing = loop.create_task(in_own_thread("import tools", _tools))
    await asyncio.shield(_importing)


_folder: Path | None = None
_then: Callable[[Collection[Tool]], None] | None = None
_found: Mapping[str, Tool] | None = None
_importing: asyncio.Task[Mapping[str, Tool]] | None = None
_yours: Imported = NOTHING
_workflows: Workflows = NO_WORKFLOWS
_has_workflows = False
"""They were looked for."""
_loading = threading.RLock()


def _tools() -> Mapping[str, Tool]:
    # Imported on first use, so that indexing the app does not import the tools.
    global _found, _yours
    if _found is not None:
        return _found
    with _loading:
        if _found is None:
            found = _built_in()
            own = workflows()
            found |= own.tools
            if _folder is not None:
                _yours = import_tools(_folder, found, has_packages=bool(workflow_files(_folder)))
                found |= _yours.tools
                for each in _yours.problems:
                    log.error("%s", each)
            _found = dict(sorted(found.items()))
            if _then is not None:
                _then(_found.values())
        return _found


def _built_in() -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for value in vars(module).values():
            if not isinstance(value, Tool) or found.get(value.name) is value:
                continue
            if value.name in found:
                raise ValueError(f"two tools are named {value.name!r}")
            found[value.name] = value
    return found
