"""The security scan of `infra/` with checkov, in a separate environment.

checkov pins very many packages, so it is never installed in `.venv`: uv runs it separately, at the version in
`infra/checkov.json`. That file also lists the accepted findings, each with a reason.

Invariant: a scan that could not read a file, or saw no resource, fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from devtools.infra.deployments import FOLDER
from devtools.setup.install import uv_environment

_TIMEOUT_S = 300


def scan() -> tuple[list[str], str]:
    """Reasons to fail, and a summary of the scan."""
    known = json.loads((FOLDER / "checkov.json").read_text("utf-8"))
    done = _scan(str(known["version"]))
    try:
        report = json.loads(done.stdout)
        lines = findings(report, known["accepted"])
        summary = report["summary"]
    except (ValueError, KeyError, TypeError) as error:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        return [f"the scan did not run: {' '.join(tail) or error}"], "checkov did not run"
    accepted = len(known["accepted"])
    return lines, f"checkov: {summary['passed']} passed, {summary['failed']} found, {accepted} kinds accepted"


def findings(report: dict[str, Any], accepted: dict[str, str]) -> list[str]:
    """Reasons to fail: unreadable files, no resources, findings that are not accepted, accepted checks without use."""
    summary, results = report["summary"], report["results"]
    lines = [f"{path}: the scanner cannot read it" for path in results.get("parsing_errors", [])]
    if summary["parsing_errors"] and not lines:
        lines.append(f"{summary['parsing_errors']} files could not be read")
    if not summary["resource_count"]:
        lines.append("the scanner saw no resource")
    failed = results.get("failed_checks", [])
    lines += [
        f"{check['file_path'].lstrip('/')}:{check['file_line_range'][0]} {check['check_id']} {check['check_name']}"
        for check in failed
        if check["check_id"] not in accepted
    ]
    unused = accepted.keys() - {check["check_id"] for check in failed}
    lines += [f"checkov.json accepts {check}, which nothing needs" for check in sorted(unused)]
    return lines


def _scan(version: str) -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    command = [
        *(str(uv), "tool", "run", "--quiet", "--python", sys.executable, "--from", f"checkov=={version}", "checkov"),
        # Without --skip-download it waits for advice texts from its vendor's server.
        *("--directory", str(FOLDER), "--framework", "bicep", "--output", "json", "--skip-download", "--soft-fail"),
    ]
    environment = uv_environment() | {"LOG_LEVEL": "CRITICAL"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        command, cwd=FOLDER.parent, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
