"""Clients that others' generators make of the document: made without a warning, compiled strictly, and run against the
app through one story. A generator that needs Java or .NET is not among them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.wire import WireContract
from tests.e2e.support.client import post_call, script
from tests.e2e.support.processes import AppHost, Sink
from tests.support.node import install, node_binary, node_environment

pytestmark = pytest.mark.timeout(900)

_HERE = Path(__file__).parent / "clients"
_LIMIT_S = 600
_SCRIPTS = {
    "openapi-typescript": ("openapi-typescript/bin/cli.js",),
    "hey-api": ("@hey-api/openapi-ts/bin/run.js",),
    "orval": ("orval/dist/bin/orval.mjs",),
    "redocly": ("@redocly/cli/bin/cli.js",),
    "spectral": ("@stoplight/spectral-cli/dist/index.js",),
}
_WARNS = ("warn", "⚠", "error", "unsupported", "skipp")

STORY = {
    "created": 201,
    "posted": 202,
    "waits": "waiting_approval",
    "code": "APPROVAL_REQUIRED",
    "approved": "approved",
    "ended": "completed",
    "roles": ["user", "assistant", "tool", "assistant"],
    # What was set before stays, and so does what the app decides: a patch of one field changes one field.
    "steps": 3,
    "mode": "manual",
    "exported": "%PDF-",
    "deleted": 204,
    "refused": "SESSION_NOT_FOUND",
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, contract: WireContract) -> Path:
    """A folder with the document, the stories, and the generators."""
    folder = tmp_path_factory.mktemp("clients")
    for name in ("story.ts", "openapi-fetch.ts", "hey-api.ts", "orval.ts", "tsconfig.json"):
        shutil.copy(_HERE / name, folder)
    # Beside each other, as in anybody's project; a copy of the packages would take longer than the tests.
    (folder / "node_modules").symlink_to(install(_HERE))
    (folder / "openapi.json").write_text(json.dumps(contract.document))
    return folder


def _run(folder: Path, *command: str, **environment: str) -> str:
    """Its output. Fails with it unless the program ends well."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=node_environment() | {"NO_COLOR": "1", "CI": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6_000:]
    return done.stdout + done.stderr


def _node(folder: Path, name: str, *arguments: str) -> str:
    return _run(folder, str(node_binary()), str(folder / "node_modules" / _SCRIPTS[name][0]), *arguments)


def _quiet(said: str) -> None:
    lines = [line for line in said.splitlines() if any(word in line.lower() for word in _WARNS)]
    assert lines == [], said[-4_000:]


@pytest.fixture(scope="module")
def built(workshop: Path) -> Path:
    """The compiled stories of the TypeScript clients."""
    made = workshop / "generated"
    document = "openapi.json"
    _quiet(_node(workshop, "openapi-typescript", document, "--output", str(made / "openapi-typescript" / "schema.ts")))
    hey = ("--input", document, "--output", str(made / "hey-api"), "--client", "@hey-api/client-fetch")
    _quiet(_node(workshop, "hey-api", *hey))
    target = str(made / "orval" / "api.ts")
    config = {"parley": {"input": document, "output": {"target": target, "client": "fetch", "mode": "single"}}}
    (workshop / "orval.config.mjs").write_text(f"export default {json.dumps(config)}")
    _quiet(_node(workshop, "orval", "--config", "orval.config.mjs"))
    _run(workshop, str(node_binary()), str(workshop / "node_modules" / "typescript" / "bin" / "tsc"))
    return workshop / "built"


def _story(parley: AppHost, sink: Sink, name: str) -> dict[str, str]:
    path = f"/generated/{name}"
    content = script(tool_calls=[[post_call(sink.url(path))]], content="done")
    return {
        "STORY_BASE_URL": parley.base_url,
        "STORY_USER": "olga;approver",
        "STORY_CONTENT": content,
    }


@pytest.mark.parametrize("client", ["openapi-fetch", "hey-api", "orval"])
async def test_a_typescript_client_runs_the_story(
    workshop: Path, built: Path, parley: AppHost, sink: Sink, client: str
) -> None:
    environment = _story(parley, sink, client)
    said = await asyncio.to_thread(_run, workshop, str(node_binary()), str(built / f"{client}.js"), **environment)
    assert json.loads(said.splitlines()[-1]) == STORY


async def test_a_python_client_runs_the_story(workshop: Path, parley: AppHost, sink: Sink) -> None:
    (workshop / "config.yaml").write_text("post_hooks: []\n")
    out = workshop / "python"
    made = (*("generate", "--path", "openapi.json", "--meta", "none", "--config", "config.yaml"), "--output-path")
    python = [sys.executable, "-m"]
    said = await asyncio.to_thread(_run, workshop, *python, "openapi_python_client", *made, str(out / "parley_api"))
    _quiet(said)
    shutil.copy(_HERE / "openapi_python_client_story.py", out / "story.py")
    strictly = ("--strict", "--no-incremental", "--cache-dir", os.devnull, "story.py")
    await asyncio.to_thread(_run, out, *python, "mypy", *strictly)
    environment = _story(parley, sink, "python")
    said = await asyncio.to_thread(_run, out, sys.executable, "story.py", **environment)
    assert json.loads(said.splitlines()[-1]) == STORY


@pytest.mark.parametrize(
    ("linter", "arguments"),
    [
        ("redocly", ("lint", "--format", "summary", "openapi.json")),
        ("spectral", ("lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", "openapi.json")),
    ],
)
async def test_a_linter_finds_nothing(workshop: Path, linter: str, arguments: tuple[str, ...]) -> None:
    (workshop / "spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    said = await asyncio.to_thread(_node, workshop, linter, *arguments)
    assert "warning" not in said.lower().replace("severity of 'warning'", ""), said
