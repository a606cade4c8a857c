"""A stand-in of what the hooks talk to, and the hooks run as programs against it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HOOKS = ROOT / "infra" / "hooks"
HERE = Path(__file__).parent
SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
TENANT = "00000000-0000-0000-0000-00000000000b"
CLIENT = "00000000-0000-0000-0000-000000000001"
ENVIRONMENT = {
    "AZURE_ENV_NAME": "test",
    "AZURE_LOCATION": "swedencentral",
    "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
    "AZURE_TENANT_ID": TENANT,
    "PARLEY_ALERT_EMAIL": "ops@example.com",
    "PARLEY_AUTH_CLIENT_ID": CLIENT,
    "PARLEY_PRINCIPAL_NAME": "me@example.com",
}
"""Of an azd environment that was set up by infra/README.md, before anything was made."""
MODEL = {
    "kind": "OpenAI",
    "skuName": "S0",
    "model": {
        "format": "OpenAI",
        "name": "gpt-5.4",
        "version": "2026-03-05",
        "deprecation": {"inference": "2099-01-01T00:00:00Z"},
        "lifecycleStatus": "GenerallyAvailable",
        "skus": [{"name": "GlobalStandard", "usageName": "OpenAI.GlobalStandard.gpt-5.4"}],
    },
}
"""By https://learn.microsoft.com/rest/api/aiservices/accountmanagement/models/list"""


class Cloud:
    """An empty subscription and directory, with somebody signed in."""

    def __init__(self, folder: Path, trace: Path | None = None) -> None:
        self._state, self.trace = folder / "cloud.json", trace or folder / "traced"
        self._programs = folder / "programs"
        self._programs.mkdir()
        self.program("az", f'exec "{sys.executable}" -I -S "{HERE / "az.py"}" "$@"')
        empty = ("applications", "principals", "resources", "groups", "deleted_vaults", "deleted_accounts", "asked")
        self.state: dict[str, Any] = {
            **{name: [] for name in empty},
            "credentials": {},
            "refuse": {},
            "models": [MODEL],
            "signed_in": "me",
            "tokens": {"https://vault.azure.net": "a-vault-token", "oss-rdbms": "a-database-token"},
            "vouched": "",
        }
        self.environment = {
            **ENVIRONMENT,
            "CLOUD": str(self._state),
            "HOOK_WAIT_SECONDS": "0",
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE / "tracing"),
            "TRACED": str(self.trace),
        }

    def program(self, name: str, script: str) -> None:
        """A program on PATH, before those of the machine."""
        (self._programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self._programs / name).chmod(0o755)

    def run(self, hook: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A hook with these arguments; `more` goes into its environment."""
        program = "sh" if hook.endswith(".sh") else sys.executable
        return self.command([program, str(HOOKS / hook), *arguments], **more)

    def command(self, command: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
        self._state.write_text(json.dumps({**self.state, "asked": []}))
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment | more,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        self.state = json.loads(self._state.read_text())
        return done

    @property
    def asked(self) -> list[str]:
        """The command lines of `az` of the last run, without how the answer is written."""
        return [" ".join(each).removesuffix(" --output json") for each in self.state["asked"]]

    def resource(self, kind: str, name: str, *, sku: str | None = None) -> dict[str, Any]:
        """A resource of this environment, as `az resource list` shows it."""
        group = "rg-parley-test"
        if group not in self.state["groups"]:
            self.state["groups"].append(group)
        made = {
            "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/{kind}/{name}",
            "name": name,
            "type": kind,
            "sku": sku and {"name": sku},
        }
        self.state["resources"].append(made)
        return made


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a hook ended."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def lines_that_never_ran(trace: Path, *hooks: str) -> list[str]:
    """Statements of hooks that are not in the trace."""
    ran = set(trace.read_text().split())
    return [f"{hook}:{line}" for hook in hooks for line in _statements(HOOKS / hook) if f"{hook}:{line}" not in ran]


def _statements(path: Path) -> Iterator[int]:
    """The first line of each, without docstrings."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.stmt) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        decorated = getattr(node, "decorator_list", [])
        yield decorated[0].lineno if decorated else node.lineno
