"""The tools in the pages and in the public package's docstring run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import parley.tools
from parley.tools import ToolContext
from shared.sessions.tools.base import Tool, validate_arguments

ROOT = Path(__file__).parents[3]
README = (ROOT / "shared/sessions/tools/README.md").read_text("utf-8")


FIRST = {
    "README": (ROOT / "README.md").read_text("utf-8"),
    "extend": (ROOT / "docs/extend.md").read_text("utf-8"),
    "tools": README,
    "parley.tools": parley.tools.__doc__ or "",
}


@pytest.mark.parametrize("text", FIRST.values(), ids=FIRST)
async def test_the_first_tool_runs(text: str, call: ToolContext, tmp_path: Path) -> None:
    found = re.search(r"(?ms)^( *)from parley\.tools import tool\n.*?^\1    return [^\n]*\n", text)
    assert found is not None
    code = dedent(found[0])
    assert len([line for line in code.splitlines() if line]) <= 8
    scope: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), scope)
    declared = scope["order_status"]
    assert isinstance(declared, Tool)

    output = await declared.run(validate_arguments(declared, {"order_id": "A-1"}), call)

    assert output.data == {"order": "A-1", "status": "shipped"}
    assert declared.description == "Look up where an order is."


def test_the_readme_names_what_a_call_has() -> None:
    named = set(re.findall(r"`call\.(\w+)", README))
    assert {name for name in named if not hasattr(ToolContext, name)} == set()
    assert {"caller", "idempotency_key", "now", "secret", "progress", "cancelled"} <= named
