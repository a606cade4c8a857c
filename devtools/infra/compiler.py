"""Bicep, Azure's own compiler: found where its installers put it, and asked over JSON-RPC in one process.

It compiles, lints, and evaluates what a deployment would send to Azure; it needs no network. What only Azure knows
stays an expression, `[reference(...)...]`. The protocol is that of Bicep's own client (`Azure.Bicep.RpcClient`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

TO_GET_IT = "`az bicep install` gets it, or download it from github.com/Azure/bicep/releases and set BICEP to its path"
_TIMEOUT_S = 60
_TENANT, _SUBSCRIPTION = "00000000-0000-0000-0000-00000000000b", "00000000-0000-0000-0000-00000000000a"

type Resource = dict[str, Any]
"""One evaluated resource: `id`, `type`, `name`, `apiVersion`, and what the template says of it."""


class CompilerError(Exception):
    """The compiler did not do what it was asked; the message is its own."""


@dataclass(frozen=True, slots=True)
class Compiled:
    template: dict[str, Any]
    """The ARM template; empty when there are errors."""
    findings: list[str]
    """Errors, warnings and findings of the linter, one line each."""


def find() -> str | None:
    """The program: `BICEP`, else on PATH, else where `az bicep install` and azd put it. Raises CompilerError if BICEP
    names none."""
    named = os.environ.get("BICEP")
    if named:
        if not shutil.which(named):
            raise CompilerError(f"BICEP={named} is no program")
        return named
    homes = [
        Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure"),
        Path(os.environ.get("AZD_CONFIG_DIR") or Path.home() / ".azd"),
    ]
    return next(filter(None, map(shutil.which, ["bicep", *(str(home / "bin" / "bicep") for home in homes)])), None)


class Compiler:
    """A running compiler, as a context manager. Every method raises CompilerError."""

    def __init__(self, program: str) -> None:
        self._program = program

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._program, "jsonrpc", "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def version(self) -> str:
        return str(self._ask("bicep/version", {})["version"])

    def compile(self, file: Path) -> Compiled:
        answer = self._ask("bicep/compile", {"path": str(file)})
        return Compiled(json.loads(answer["contents"]) if answer["success"] else {}, _findings(answer, file.parent))

    def files(self, file: Path) -> set[Path]:
        """Every file that the deployment of this one is made of."""
        return {Path(path) for path in self._ask("bicep/getFileReferences", {"path": str(file)})["filePaths"]}

    def evaluate(self, parameters: Path) -> list[Resource]:
        """What would be made with this file of parameters (`.bicepparam`)."""
        metadata = {"tenantId": _TENANT, "subscriptionId": _SUBSCRIPTION}
        try:
            answer = self._ask("bicep/getSnapshot", {"path": str(parameters), "metadata": metadata})
        except CompilerError:
            # It says only that it failed.
            compiled = self._ask("bicep/compileParams", {"path": str(parameters), "parameterOverrides": {}})
            if findings := _findings(compiled, parameters.parent):
                raise CompilerError("; ".join(findings)) from None
            raise
        snapshot = json.loads(answer["snapshot"])
        if snapshot["diagnostics"]:
            raise CompilerError(f"{parameters.name}: {snapshot['diagnostics']}")
        return list(snapshot["predictedResources"])

    def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer; each is a header with its length, an empty line, and JSON."""
        body = json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": parameters}).encode()
        ask, answers = self._process.stdin, self._process.stdout
        assert ask is not None
        assert answers is not None
        watch = Timer(_TIMEOUT_S, self._process.kill)
        watch.start()
        try:
            ask.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            ask.flush()
            length = 0
            while line := answers.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            answer: dict[str, Any] = json.loads(answers.read(length))
        except (OSError, ValueError) as error:
            raise CompilerError(f"{self._program} ended, or took longer than {_TIMEOUT_S} s") from error
        finally:
            watch.cancel()
        if "error" in answer:
            raise CompilerError(f"{method} {parameters.get('path', '')}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result


def _findings(answer: dict[str, Any], folder: Path) -> list[str]:
    return [
        f"{os.path.relpath(each['source'], folder)}:{each['range']['start']['line'] + 1}"
        f" {each['level']} {each['code']}: {each['message']}"
        for each in answer["diagnostics"]
    ]
