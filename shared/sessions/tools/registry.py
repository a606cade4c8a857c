"""The registry of tools: every `Tool` in the modules of `builtin/`, by name.

Invariant: names are unique. The order is the same in every process, since the provider's prompt cache and stored plans
depend on it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

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
from shared.sessions.tools.services import FetchRequest, FetchResponse, HttpFetcher, ToolServices

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
    "tool",
    "validate_arguments",
]


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


@cache
def _tools() -> Mapping[str, Tool]:
    # Imported on first use, so that indexing the app does not import the tools.
    found: dict[str, Tool] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for value in vars(module).values():
            if not isinstance(value, Tool) or found.get(value.name) is value:
                continue
            if value.name in found:
                raise ValueError(f"two tools are named {value.name!r}")
            found[value.name] = value
    return MappingProxyType(dict(sorted(found.items())))
