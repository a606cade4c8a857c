"""The snippets that README.md and docs/front-ends.md show, run as they stand but for the address."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.e2e.support.node_client import SCRIPTS
from tests.e2e.support.processes import AppHost
from tests.support.node import install, node_binary, node_environment

ROOT = Path(__file__).resolve().parents[3]


def _snippets(page: str, language: str, marker: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if marker in block]


async def _printed(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, env=env, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("page", ["README.md", "docs/front-ends.md"])
async def test_the_snippet_for_openais_client_answers(parley: AppHost, tmp_path: Path, page: str) -> None:
    [snippet] = _snippets(page, "python", "from openai import")
    (tmp_path / "snippet.py").write_text(snippet.replace("http://localhost:7071", parley.base_url))
    assert (await _printed(sys.executable, "snippet.py", cwd=tmp_path, env=dict(os.environ))).strip()


async def test_the_snippet_for_ag_ui_answers(parley: AppHost, tmp_path: Path) -> None:
    [snippet] = _snippets("docs/front-ends.md", "js", "@ag-ui/client")
    (tmp_path / "node_modules").symlink_to(await asyncio.to_thread(install, SCRIPTS))
    (tmp_path / "snippet.mjs").write_text(snippet.replace("http://localhost:7071", parley.base_url))
    assert (await _printed(node_binary(), "snippet.mjs", cwd=tmp_path, env=node_environment())).strip()
