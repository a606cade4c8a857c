"""Imports the tools that are not Parley's: the modules in `tools/` of the folder `agents/`, one by one.

Each module is imported in a thread of its own and for a bounded time. Whatever goes wrong in one (an exception, an
exit, a wrong declaration, an endless loop) is one line that names file and line; the others are there all the same.

These modules run with the app's rights, as any of its code does: this is no sandbox (docs/security.md).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from shared.sessions.tools.base import Tool
from shared.sessions.tools.modules.problems import Problem, of_exception, of_frame, problem, shown_path

IMPORT_S = 20.0
"""For one module. The first import of a large library from a cold disk takes several seconds."""
ALL_S = 60.0
"""For all of them: no request waits longer for the tools of a new process."""

PACKAGE = "parley_agents"
"""The name that the folder is imported under. Not `agents`, which is a package that a tool may need from PyPI."""
_PARTS = ("tools", "workflows")
_ENDING_S = 0.2
"""How long a module that was told to end may take to do so; it is given up then, and its thread goes on."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The tools of a folder, and what is wrong with its modules."""

    tools: Mapping[str, Tool]
    """By name."""
    paths: Mapping[str, str]
    """Which file a tool came from, by its name, such as `agents/tools/refund.py`."""
    problems: tuple[Problem, ...]


NOTHING = Imported({}, {}, ())


class _TooLong(BaseException):
    """Raised in the thread of a module that is still being imported."""


def module_files(folder: Path) -> list[Path]:
    """The files of a folder that are to hold tools, by name. Those whose name begins with `_` are for the others."""
    return sorted(file for file in (folder / "tools").glob("*.py") if not file.name.startswith("_"))


def import_tools(
    folder: Path,
    taken: Mapping[str, object],
    *,
    import_s: float = IMPORT_S,
    all_s: float = ALL_S,
    has_packages: bool = False,
) -> Imported:
    """Import the modules of `folder`/tools. Blocks for `all_s` seconds at most. Raises nothing of theirs.

    taken: names of tools that no module may use. import_s: for one module, in seconds. has_packages: other modules of
    the folder were imported.
    """
    files = module_files(folder)
    if not files:
        return NOTHING
    if not has_packages:
        make_packages(folder)
    tools: dict[str, Tool] = {}
    paths: dict[str, str] = {}
    problems: list[Problem] = []
    until = time.monotonic() + all_s
    for file in files:
        seconds = min(import_s, until - time.monotonic())
        if seconds <= 0:
            problems.append(problem(folder, file, f"is left out: the tools before it took {all_s:.0f} s to import"))
            continue
        module = import_module(folder, file, "tools", seconds)
        if isinstance(module, Problem):
            problems.append(module)
            continue
        problems += _collect(folder, file, module, taken, tools, paths)
    return Imported(tools, paths, tuple(problems))


def _collect(
    folder: Path,
    file: Path,
    module: ModuleType,
    taken: Mapping[str, object],
    tools: dict[str, Tool],
    paths: dict[str, str],
) -> list[Problem]:
    """Add a module's tools; returns what is wrong with them."""
    source = file.read_text("utf-8", errors="replace")
    found = [value for value in vars(module).values() if isinstance(value, Tool)]
    if not found:
        return [problem(folder, file, "defines no tool: decorate a function with @tool, or begin its name with _")]
    problems: list[Problem] = []
    for tool in found:
        if tool is taken.get(tool.name) or tool is tools.get(tool.name):
            continue  # imported from where it is defined
        lines = lines_of(tool.name, source)
        line = lines[-1] if lines else None
        if tool.name in taken:
            problems.append(problem(folder, file, f"the tool {tool.name!r} has the name of a built-in tool", line))
        elif tool.name in tools:
            first = paths[tool.name]
            problems.append(problem(folder, file, f"the tool {tool.name!r} is also defined in {first}", line))
        elif len(lines) > 1:
            problems.append(problem(folder, file, f"the tool {tool.name!r} is also defined in line {lines[0]}", line))
        else:
            tools[tool.name], paths[tool.name] = tool, shown_path(folder, file)
    return problems


def lines_of(name: str, source: str) -> list[int]:
    """The lines in which a module defines a function of that name. Python itself keeps only the last one."""
    return [
        source.count("\n", 0, match.start()) + 1
        for match in re.finditer(rf"(?m)^(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", source)
    ]


def make_packages(folder: Path) -> None:
    """Packages without code, so that modules are found by Python's own means and import each other (`._db`)."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]
    for name, place in ((PACKAGE, folder), *((f"{PACKAGE}.{each}", folder / each) for each in _PARTS)):
        package = ModuleType(name)
        package.__path__ = [str(place)]
        package.__spec__ = importlib.util.spec_from_loader(name, loader=None, is_package=True)
        sys.modules[name] = package
    importlib.invalidate_caches()


def import_module(folder: Path, file: Path, part: str, seconds: float) -> ModuleType | Problem:
    """Import a module of a part of the folder, whose packages are made. Raises nothing of its own."""
    if not file.stem.isidentifier():
        return problem(folder, file, "the file's name must be a Python name, such as find_order.py")
    done = threading.Event()
    found: list[ModuleType | BaseException] = []

    def run() -> None:
        try:
            found.append(importlib.import_module(f"{PACKAGE}.{part}.{file.stem}"))
        except BaseException as exc:  # an exit, too: nothing that a file does while it is imported ends the app
            found.append(exc)
        finally:
            done.set()

    # In a thread, since a module cannot be ended from outside, and since it may run an event loop of its own.
    thread = threading.Thread(target=run, name=f"import {file.name}", daemon=True)
    thread.start()
    if not done.wait(seconds):
        frame = sys._current_frames().get(thread.ident or 0)
        slow = of_frame(folder, file, frame, f"is left out: still importing after {seconds:.0f} s")
        _end(thread)
        done.wait(_ENDING_S)
        return slow
    match found[0]:
        case ModuleType() as module:
            return module
        case ModuleNotFoundError() as missing if missing.name and not missing.name.startswith(PACKAGE):
            hint = f"add it to {folder.name}/requirements.txt"
            told = of_exception(folder, file, missing)
            return Problem(told.path, told.line, f"{told.text} ({hint})")
        case SystemExit() as left:
            told = of_exception(folder, file, left)
            return Problem(told.path, told.line, f"{told.text}: the module exits when it is imported")
        case exc:
            return of_exception(folder, file, exc)


def _end(thread: threading.Thread) -> None:
    """Raise an exception in the thread as soon as it runs Python code again; a call into C ends first."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TooLong))
