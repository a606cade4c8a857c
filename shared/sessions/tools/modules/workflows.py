"""Imports the workflows that are not Parley's: the modules in `workflows/` of the folder `agents/`.

Each module is plain Durable Functions code: a blueprint, orchestrations, activities. An orchestration with `@workflow`
is a tool, too. What the SDK makes of them is read here without knowing the SDK.

Invariant: a file with a fault has no function in the app. Nothing of a folder opens a route or a trigger of another
kind, since nobody would ask there who calls.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.sessions.tools.base import Tool
from shared.sessions.tools.kinds.workflows import declared_of
from shared.sessions.tools.modules.importing import ALL_S, IMPORT_S, PACKAGE, import_module, lines_of
from shared.sessions.tools.modules.problems import Problem, problem, shown_path

FOLDER = "workflows"
_ORCHESTRATION, _ACTIVITY = "orchestrationTrigger", "activityTrigger"


@dataclass(frozen=True, slots=True)
class Workflows:
    """The workflows of a folder, and what is wrong with its modules."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    """By name."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Which file a tool came from, by its name."""
    builders: tuple[Any, ...] = ()
    """Of the SDK: all functions, to be registered."""
    problems: tuple[Problem, ...] = ()


NOTHING = Workflows()


def workflow_files(folder: Path) -> list[Path]:
    """The files of a folder that are to hold workflows, by name; those that begin with `_` are for the others."""
    return sorted(file for file in (folder / FOLDER).glob("*.py") if not file.name.startswith("_"))


def import_workflows(
    folder: Path,
    *,
    taken_tools: Collection[str],
    taken_functions: Collection[str],
    import_s: float = IMPORT_S,
    all_s: float = ALL_S,
) -> Workflows:
    """Import the modules of `folder`/workflows, whose packages are made. Blocks for `all_s` seconds at most. Raises
    nothing of theirs.

    taken_tools, taken_functions: names that they may not use; of functions in small letters.
    """
    tools: dict[str, Tool] = {}
    paths: dict[str, str] = {}
    builders: list[Any] = []
    problems: list[Problem] = []
    functions: dict[str, str] = dict.fromkeys(taken_functions, "Parley")
    until = time.monotonic() + all_s
    for file in workflow_files(folder):
        seconds = min(import_s, until - time.monotonic())
        if seconds <= 0:
            problems.append(problem(folder, file, f"is left out: those before it took {all_s:.0f} s to import"))
            continue
        module = import_module(folder, file, FOLDER, seconds)
        if isinstance(module, Problem):
            problems.append(module)
            continue
        found = _Found(folder, file, module)
        faults = found.faults(functions, {*taken_tools, *tools})
        if faults:
            problems.append(faults[0])  # the first one is enough to leave the file out
            continue
        shown = shown_path(folder, file)
        functions |= dict.fromkeys(found.names, shown)
        builders += found.builders
        tools |= found.tools
        paths |= dict.fromkeys(found.tools, shown)
    return Workflows(tools, paths, tuple(builders), tuple(problems))


class _Found:
    """What one module defines."""

    def __init__(self, folder: Path, file: Path, module: ModuleType) -> None:
        self._folder = folder
        self._file = file
        self._source = file.read_text("utf-8", errors="replace")
        blueprints = {id(value): value for value in vars(module).values() if hasattr(value, "_function_builders")}
        # One that was imported from another file is that file's. What the SDK makes of an entity is of no file.
        all_builders = [builder for one in blueprints.values() for builder in one._function_builders]
        self.builders = [one for one in all_builders if not _is_of_another(one, module.__name__)]
        declared = [declared_of(_written(one)) for one in self.builders if _kind(one) == _ORCHESTRATION]
        self.tools = {one.tool.name: one.tool for one in declared if one is not None}
        self.names = [name.casefold() for builder in self.builders for name in _names(builder)]
        self._marked = [
            name for name, value in vars(module).items() if declared_of(value) is not None and callable(value)
        ]

    def faults(self, functions: Mapping[str, str], taken_tools: Collection[str]) -> list[Problem]:
        if self._marked:
            name = self._marked[0]
            return [self._fault("@workflow stands below @bp.orchestration_trigger(...), in a blueprint", name)]
        if not self.tools:
            return [
                self._fault("defines no workflow: decorate an orchestration with @workflow, or begin its name with _")
            ]
        faults: list[Problem] = []
        seen: set[str] = set()
        for builder in self.builders:
            name = builder._function.get_function_name()
            kind = _kind(builder)
            if kind not in {_ORCHESTRATION, _ACTIVITY}:
                faults.append(self._fault(f"{name!r} is neither an orchestration nor an activity", name))
                continue
            fault = _shape(builder, kind)
            if fault is not None:
                faults.append(self._fault(fault, name))
            for each in dict.fromkeys(one.casefold() for one in _names(builder)):
                if each in functions:
                    faults.append(self._fault(f"{each!r} is the name of a function of {functions[each]}", name))
                elif each in seen:
                    faults.append(self._fault(f"{each!r} is the name of two functions", name))
                seen.add(each)
            declared = declared_of(_written(builder))
            if declared is not None and name != (_durable_name(builder) or name):
                faults.append(self._fault(f"the workflow {name!r} must not be given another name", name))
            if declared is not None and declared.tool.name in taken_tools:
                faults.append(self._fault(f"the workflow {name!r} has the name of another tool", name))
        return faults

    def _fault(self, text: str, name: str | None = None) -> Problem:
        lines = [] if name is None else lines_of(name, self._source)
        return problem(self._folder, self._file, text, lines[-1] if lines else None)


def _is_of_another(builder: Any, module: str) -> bool:
    found = str(getattr(_written(builder), "__module__", ""))
    return found != module and found.startswith(f"{PACKAGE}.")


def _written(builder: Any) -> Any:
    """The function as it was written: an orchestration's lies below a handle of the SDK."""
    function = builder._function.get_user_function()
    return getattr(function, "orchestrator_function", function)


def _kind(builder: Any) -> str:
    trigger = builder._function.get_trigger()
    return "" if trigger is None else str(trigger.get_dict_repr().get("type"))


def _shape(builder: Any, kind: str) -> str | None:
    """Why the worker would not take a function, and no other one with it."""
    function = builder._function
    name, parameter = function.get_function_name(), function.get_trigger().name
    if len(function.get_bindings()) != 1:
        return f"{name!r} has another binding beside its trigger"
    if kind == _ORCHESTRATION:
        return None if parameter == "context" else f"{name!r} needs context_name='context'"
    try:
        inspect.signature(_written(builder)).bind(**{parameter: None})
    except TypeError:
        return f"{name!r} must take the one parameter {parameter!r} that its trigger names"
    return None


def _names(builder: Any) -> list[str]:
    """Of the function in the app, and in durable histories."""
    name = str(builder._function.get_function_name())
    return [name, _durable_name(builder) or name]


def _durable_name(builder: Any) -> str | None:
    trigger = builder._function.get_trigger()
    told = {} if trigger is None else trigger.get_dict_repr()
    found = told.get("orchestration") or told.get("activity")
    return None if found is None else str(found)
