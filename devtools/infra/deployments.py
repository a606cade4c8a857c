"""The deployments that are evaluated, and the two of them whose resources are in git (`infra/snapshots`).

Parameters take the way they take with azd: environment variables fill `infra/main.parameters.json`.
Invariant: snapshots hold nothing of the machine, the day, or the order in which the compiler answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from devtools.infra.compiler import Compiler, CompilerError, Resource
from devtools.setup.places import ROOT as _ROOT

FOLDER = Path(_ROOT) / "infra"
SNAPSHOTS = "snapshots"
SOURCES = "snapshots/sources.txt"
_COLUMNS = 120
_COMMON = {
    "AZURE_LOCATION": "swedencentral",
    "AZURE_PRINCIPAL_ID": "00000000-0000-0000-0000-000000000002",
    "PARLEY_AUTH_CLIENT_ID": "00000000-0000-0000-0000-000000000001",
    "PARLEY_PRINCIPAL_NAME": "operator@example.com",
    "PARLEY_ALERT_EMAIL": "operator@example.com",
    "PARLEY_BUDGET_START": "2027-01-01",
    "PARLEY_CONSOLE_ORIGINS": '["https://chat.example.com"]',
    "PARLEY_DEPLOYER_IP": "203.0.113.7",
    "PARLEY_TOOL_SECRETS": "CRM_TOKEN, ERP_KEY",
    "PARLEY_CHANNELS": "teams, slack, email",
    "PARLEY_MAIL_FROM": "parley@example.com",
    "PARLEY_MAIL_TO": "ann@example.com, bob@example.com",
}
"""With all that is optional."""
_SHORTER = (
    ("/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/{group}/providers/", "GROUP/"),
    ("/subscriptions/00000000-0000-0000-0000-00000000000a/", "SUBSCRIPTION/"),
)


class Choice(NamedTuple):
    """One deployment by the switches that decide about resources."""

    size: str
    private: bool
    durable: str
    name: str = "dev"
    """The environment's name."""
    public_app: bool = False

    def __str__(self) -> str:
        return f"{self.size}, {'private' if self.private else 'public'}, {self.durable}, named {self.name}"

    def variables(self) -> dict[str, str]:
        return _COMMON | {
            "AZURE_ENV_NAME": self.name,
            "PARLEY_SIZE": self.size,
            "PARLEY_PRIVATE": str(self.private).lower(),
            "PARLEY_PUBLIC_APP": "true" if self.public_app else "",
            "PARLEY_DURABLE_BACKEND": self.durable,
            # Either way in half of them, and the same on both sides of each switch: nothing else depends on it.
            "PARLEY_TRIGGER_QUEUE": str(self.name != "dev").lower(),
        }


LONGEST = "an-environment-with-a-name-of-40-letters"
"""As long as main.bicep allows; "dev" is as short as anybody's."""
CHOICES = [
    Choice(size, private, durable, name)
    for size, private, durable, name in product(
        ("dev", "prod"), (False, True), ("scheduler", "storage"), ("dev", LONGEST)
    )
]
COMMITTED = {
    "dev-public-storage": Choice("dev", False, "storage"),
    "prod-private-scheduler": Choice("prod", True, "scheduler", "prod"),
}
"""What a change of infra/ is seen by. Nobody sets `private` here: both have the default of their size. The Scheduler is
where it has the most parts (endpoint, zone, units) and is what prod has by default; so storage is in dev."""


def evaluate(
    compiler: Compiler, template: dict[str, Any], variables: dict[str, str], folder: Path = FOLDER
) -> list[Resource]:
    """The resources of a deployment. Raises CompilerError."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place).resolve() / "main.bicepparam"
        main = os.path.relpath(folder / "main.bicep", file.parent)
        file.write_text(f"using '{main}'\n{_parameters(template, variables, folder)}", "utf-8")
        return compiler.evaluate(file)


def committed(compiler: Compiler, template: dict[str, Any], folder: Path = FOLDER) -> dict[str, str]:
    """The text of every snapshot as the sources evaluate to now."""
    return {
        name: text(evaluate(compiler, template, choice.variables() | {"PARLEY_PRIVATE": ""}, folder), choice)
        for name, choice in COMMITTED.items()
    }


def _parameters(template: dict[str, Any], variables: dict[str, str], folder: Path) -> str:
    """The parameters as azd would give them: typed as the template says, and left out when empty and no text."""
    lines = []
    for name, given in json.loads((folder / "main.parameters.json").read_text("utf-8"))["parameters"].items():
        try:
            value = re.sub(
                r"\$\{(\w+)(?:=([^}]*))?\}",
                lambda found: variables[found[1]] if found[2] is None else variables.get(found[1], found[2]),
                given["value"],
            )
        except KeyError as variable:
            raise CompilerError(f"main.parameters.json takes {variable}, which `_COMMON` does not set") from None
        kind = template["parameters"].get(name, {}).get("type", "string")
        if value or kind == "string":
            literal = value if kind in ("bool", "int") else "'" + value.replace("\\", r"\\").replace("'", r"\'") + "'"
            lines.append(f"param {name} = {f'json({literal})' if kind in ('array', 'object') else literal}")
    return "\n".join(lines) + "\n"


def sources_hash(folder: Path = FOLDER) -> str:
    """Of everything that the compiler reads."""
    files = [*folder.rglob("*.bicep"), *folder.glob("bicepconfig.json"), folder / "main.parameters.json"]
    named = sorted((str(file.relative_to(folder)), file.read_bytes()) for file in files)
    return hashlib.sha256(
        b"".join(b"%b\0%d\0%b" % (name.encode(), len(data), data) for name, data in named)
    ).hexdigest()


def stored(name: str, folder: Path = FOLDER) -> list[Resource]:
    """The resources of a snapshot in git."""
    snapshot = json.loads((folder / SNAPSHOTS / f"{name}.json").read_text("utf-8"))
    return [{"id": key, **body} for key, body in snapshot.items()]


def text(resources: list[Resource], choice: Choice) -> str:
    """A snapshot: resources by id, their long ids shortened, as few lines as fit the width. Ends with a newline."""
    whole = json.dumps({each["id"]: {key: each[key] for key in each if key != "id"} for each in resources})
    for long, short in _SHORTER:
        whole = whole.replace(long.format(group=f"rg-parley-{choice.name}"), short)
    return _lines(json.loads(whole), "") + "\n"


def _lines(value: Any, margin: str) -> str:
    flat = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if len(margin) + len(flat) < _COLUMNS or not isinstance(value, dict | list) or not value:
        return flat
    inner = margin + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _lines(each, inner) for each in value) + f"\n{margin}]"
    return (
        "{\n"
        + ",\n".join(f"{inner}{json.dumps(key)}: {_lines(value[key], inner)}" for key in sorted(value))
        + f"\n{margin}}}"
    )
