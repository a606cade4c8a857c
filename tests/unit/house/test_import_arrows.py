"""The house's arrows: triggers -> orchestrators -> activities -> shared, and nobody reaches into devhost."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

MAY_IMPORT = {
    "shared": {"shared"},
    "activities": {"activities", "shared"},
    "orchestrators": {"orchestrators", "activities", "shared"},
    "triggers": {"triggers", "orchestrators", "activities", "shared"},
    "devhost": {"devhost"},
}
ROOMS = {*MAY_IMPORT, "devtools", "tests", "function_app"}

PURE_FOR_ORCHESTRATORS = {
    "shared.durable.messages",
    "shared.durable.names",
    "shared.sessions.models",
    "shared.sessions.approvals.notices",
    "shared.sessions.records.steps",
    "shared.sessions.turns.retry",
}
"""What a deterministic generator may know of the domain: values and pure policy."""


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} holds no module: the test would prove nothing"
    return found


def imports(path: Path) -> Iterator[str]:
    """Dotted names a module imports, anywhere in it; relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_its_arrow_allows(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imports(path)
        if (first := name.partition(".")[0]) in ROOMS and first not in MAY_IMPORT[room]
    ]
    assert wrong == []


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


def test_only_the_two_wrappers_call_the_durable_sdk() -> None:
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
    wrappers = {ROOT / "orchestrators/durable.py", ROOT / "activities/durable_client.py"}
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
    allowed = {ROOT / "shared/adapters/sql" / name for name in ("migrate.py", "restored.py")}  # commands of their own
    wrong = [
        str(path.relative_to(ROOT))
        for room in ("shared", "activities", "orchestrators", "triggers")
        for path in modules(room)
        if path not in allowed and "os" in imports(path)
    ]
    assert wrong == []
