"""The house's arrows: triggers -> orchestrators -> activities -> shared, and nobody reaches into devhost."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

MAY_IMPORT = {
    "shared": {"shared"},
    "parley": {"parley", "shared"},
    "activities": {"activities", "shared"},
    "orchestrators": {"orchestrators", "activities", "shared"},
    "triggers": {"triggers", "orchestrators", "activities", "shared"},
    "devhost": {"devhost"},
}
ROOMS = {*MAY_IMPORT, "devtools", "tests", "function_app"}

ARROWS = {
    "shared": {
        "batching": "",
        "canonical": "",
        "errors": "",
        "ids": "",
        "signing": "",
        "storable": "",
        "tracing": "",
        "visible": "",
        "principal": "errors",
        "rights": "errors",
        "lanes": "errors",
        "work_pool": "errors",
        "sessions": "canonical errors ids lanes principal rights signing storable tracing visible work_pool",
        "durable": "errors ids sessions",
        "health": "errors sessions",
        "settings": "errors principal sessions signing",
        "adapters": "batching durable errors ids lanes principal rights sessions settings signing tracing visible"
        " work_pool",
        "composition": "adapters durable errors health lanes principal sessions settings signing tracing work_pool",
    },
    "shared.sessions": {
        "error_handler": "",
        "measuring": "",
        "structured_output": "",
        "models": "structured_output",
        "events": "models",
        "limits": "models",
        "live": "events models",
        "llm": "limits models",
        "mcp": "models structured_output",
        "records": "events limits mcp models structured_output",
        "audit": "events models records",
        "cache": "",
        "repository": "events limits models records",
        "files": "llm models records repository",
        "tools": "files mcp models records structured_output",
        "agents": "llm mcp models records tools",
        "waits": "events models records repository structured_output tools",
        "approvals": "audit llm mcp models records repository tools",
        "history": "cache files models records repository tools",
        "metrics": "measuring models tools",
        "approval": "approvals audit cache events live models records repository tools",
        "channels": "approvals audit models records repository tools",
        "context": "approvals files llm metrics models records",
        "features": "agents cache events models records",
        "subagents": "agents context events metrics models records repository tools",
        "posting": "agents approvals context limits models records repository tools",
        "model_requests": "context limits llm models records structured_output tools",
        "executor": "context limits llm metrics model_requests models records tools",
        "life": "agents audit cache events live llm metrics models posting records repository",
        "turns": "context events executor live llm metrics model_requests models records repository"
        " structured_output tools",
        "service": "agents context events features metrics models posting records repository turns",
        "bridge": "approvals context events executor live metrics models records repository tools turns",
        "unattended": "agents features models posting records service",
        "recovery": "cache events life models records",
        "older_events": "approvals events models",
        "streaming": "events live models older_events records repository turns",
        "doors": "agents approvals events live models records service streaming structured_output turns",
        "calls": "agents approvals events models records repository subagents tools",
        "tool_handler": "agents audit calls context events live mcp metrics models records repository"
        " subagents tools turns waits",
    },
    "shared.adapters": {
        "azure": "",
        "watch": "",
        "http": "",
        "mcp": "azure http",
        "postgres": "watch",
        "sql": "postgres",
        "channels": "",
        "models": "azure",
        "redis": "azure watch",
        "telemetry": "azure",
    },
    "shared.adapters.postgres": {
        "outage": "",
        "pool": "outage",
        "queries": "",
        "listing": "pool",
        "attachments": "listing pool queries",
        "audit": "listing pool queries",
        "features": "pool queries",
        "history": "listing pool queries",
        "metrics": "pool queries",
        "rows": "pool",
        "hubs": "pool queries",
        "channels": "audit pool queries",
        "agents": "listing pool queries rows",
        "sessions": "audit listing pool queries rows",
        "turns": "audit history listing pool queries rows sessions",
        "branches": "listing pool queries rows sessions turns",
        "unattended": "pool queries",
    },
    "shared.adapters.models": {
        "refusals": "",
        "text": "",
        "model_list": "",
        "usage": "",
        "calls": "text",
        "endpoint": "refusals",
        "sse": "text",
        "pending_text": "sse text",
        "parser": "calls pending_text refusals sse",
        "chat": "parser refusals sse text usage",
        "responses": "chat parser refusals sse text usage",
        "service": "chat endpoint model_list parser refusals responses",
    },
    "triggers": {
        "http": "",
        "approvals": "http",
        "catalog": "http",
        "channels": "http",
        "live": "http",
        "operations": "channels http",
        "site": "http",
        "sessions": "http live",
        "doors": "approvals http live sessions",
        "unattended": "http sessions",
    },
    "devhost": {
        "asgi": "",
        "clock": "",
        "correlation": "",
        "harsh": "",
        "ids": "",
        "threads": "",
        "model": "threads",
        "servers": "threads",
        "extensions": "harsh",
        "settings": "extensions",
        "durable": "asgi extensions harsh ids settings",
        "pages": "asgi extensions",
        "testing": "settings",
        "signalr": "extensions",
        "queues": "extensions settings",
        "logs": "correlation settings",
        "worker": "asgi correlation extensions",
        "app": "correlation extensions ids logs settings worker",
        "timers": "app clock correlation extensions settings",
        "http": "app asgi correlation extensions pages settings timers",
        "runner": "app asgi clock extensions harsh http logs pages settings timers",
        "cli": "extensions harsh logs runner settings",
        "__main__": "cli",
    },
    "devhost.durable": {
        "fidelity": "",
        "limits": "",
        "registry": "",
        "settings": "limits",
        "store": "",
        "binding": "store",
        "replay": "limits store",
        "late": "store",
        "core": "late registry replay settings store",
        "workers": "core limits replay store",
        "engine": "core limits registry replay settings store workers",
        "management": "binding engine store workers",
        "extension": "binding engine management registry settings",
    },
    "devtools": {
        "notes": "",
        "setup": "",
        "signals": "",
        "fonts": "setup",
        "__main__": "setup",
        "statement_log": "setup",
        "bench": "setup signals statement_log",
        "chaos": "bench setup signals",
        "app_environment": "setup",
        "host": "app_environment setup",
        "lines": "",
        "histories": "lines setup",
        "cases": "histories lines setup",
        "browser": "",
        "agents": "setup",
        "checks": "agents browser setup",
        "console": "setup",
        "infra": "setup",
        "sizing": "setup",
        "figures": "chaos sizing",
        "icons": "setup",
        "local": "agents console setup",
        "package": "console setup",
        "clients": "console setup",
        "small_model": "checks setup",
        "static_site": "console",
        "measured": "",
        "measured_kinds": "setup",
        "measure_turn": "local measured_kinds statement_log",
        "usage": "__main__ setup",
        "demo": "setup",
    },
}
"""What each part of a room imports of the others there. It imports only what stands above it: no arrow runs back."""

PURE_FOR_ORCHESTRATORS = {
    "shared.durable.messages",
    "shared.durable.names",
    "shared.sessions.models",
    "shared.sessions.approvals.notices",
    "shared.sessions.records.steps",
    "shared.sessions.tools.kinds.workflows",
    "shared.sessions.turns.retry",
}
"""What a deterministic generator may know of the domain: values and pure policy."""


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} holds no module: the test would prove nothing"
    return found


@cache
def imports(path: Path) -> list[str]:
    """Dotted names a module imports, anywhere in it; relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found += (module, *(f"{module}.{alias.name}" for alias in node.names))
    return found


def arrows(room: str) -> dict[str, set[str]]:
    """What each module or package right below `room` imports of the others there."""
    depth = room.count(".") + 1
    paths = modules(room.replace(".", "/"))
    parts = {path.relative_to(ROOT).with_suffix("").parts[depth] for path in paths} - {"__init__"}
    found: dict[str, set[str]] = {part: set() for part in parts}
    for path in paths:
        part = path.relative_to(ROOT).with_suffix("").parts[depth]
        for name in imports(path):
            other = name.removeprefix(f"{room}.").partition(".")[0] if name.startswith(f"{room}.") else ""
            if part in parts and other in parts and other != part:
                found[part].add(other)
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_its_arrow_allows(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imports(path)
        if (first := name.partition(".")[0]) in ROOMS and first not in MAY_IMPORT[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ARROWS)
def test_the_parts_of_a_room_import_of_each_other_what_the_table_says(room: str) -> None:
    found = arrows(room)

    assert {part: " ".join(sorted(others)) for part, others in found.items()} == ARROWS[room]


@pytest.mark.parametrize("room", ARROWS)
def test_no_arrow_of_the_table_runs_back(room: str) -> None:
    above: set[str] = set()
    for part, others in ARROWS[room].items():
        assert set(others.split()) <= above, part
        above.add(part)


def test_every_package_says_what_lives_there_and_what_does_not() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for room in ("shared", "triggers", "devhost", "devtools")
        for path in modules(room)
        if path.name == "__init__.py"
        and len(path.relative_to(ROOT).parts) > 2
        and "Not here:" not in path.read_text("utf-8")
    ]
    assert silent == []


def test_the_domain_does_not_know_azure_functions() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("shared")
        for name in imports(path)
        if name.startswith(("azure.functions", "azure.durable_functions", "azurefunctions"))
    ]
    assert wrong == []


def test_orchestrators_know_only_values_and_pure_policy() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("orchestrators")
        for name in imports(path)
        if name.startswith(("shared.", "activities"))
        and not any(name == pure or name.startswith(pure + ".") for pure in PURE_FOR_ORCHESTRATORS)
        and name not in {"shared.sessions"}
    ]
    assert wrong == []


def test_only_the_wrappers_call_the_durable_sdk() -> None:
    # Elsewhere the SDK gives decorators and type names; its verbs stay in the wrappers.
    verbs = {
        "call_activity",
        "call_activity_with_retry",
        "call_sub_orchestrator",
        "create_timer",
        "start_new",
        "task_all",
        "task_any",
        "wait_for_external_event",
        "raise_event",
        "get_status",
    }
    wrappers = {
        ROOT / "orchestrators/durable.py",
        ROOT / "orchestrators/workflow_context.py",
        ROOT / "activities/durable_client.py",
    }
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.attr}"
        for room in ("orchestrators", "activities", "triggers")
        for path in modules(room)
        if path not in wrappers
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in verbs
    ]
    assert wrong == []


def test_environment_variables_are_read_in_one_place() -> None:
    commands = ("hubs.py", "migrate.py", "restored.py")
    allowed = {ROOT / "shared/adapters/sql" / name for name in commands}
    allowed.add(ROOT / "shared/settings.py")
    allowed.add(ROOT / "shared/sessions/files/readers/pdf_child.py")  # a process of its own, without an environment
    wrong = [
        str(path.relative_to(ROOT))
        for room in ("shared", "activities", "orchestrators", "triggers")
        for path in modules(room)
        if path not in allowed and "os" in imports(path)
    ]
    assert wrong == []
