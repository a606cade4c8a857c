"""`./dev infra`: the security scan of `infra/` with checkov, in a separate environment.

checkov pins very many packages, so it is never installed in `.venv`: uv runs it separately, at the version in
`infra/checkov.json`. That file also lists the accepted findings, each with a reason.

Invariant: a scan that could not read a file, or saw no resource, fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devtools.setup.install import uv_environment
from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
FOLDER = ROOT / "infra"
_TIMEOUT_S = 300


def main(arguments: Sequence[str]) -> int:
    """0 when every finding is accepted."""
    if arguments:
        print("dev: infra takes no arguments", file=sys.stderr)
        return 2
    began = time.monotonic()
    known = json.loads((FOLDER / "checkov.json").read_text("utf-8"))
    done = _scan(str(known["version"]))
    try:
        report = json.loads(done.stdout)
        lines = list(findings(report, known["accepted"]))
    except (ValueError, KeyError, TypeError) as error:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:]
        print(f"infra: the scan did not run: {' '.join(tail) or error}", file=sys.stderr)
        return 1
    for line in lines:
        print(f"infra: {line}", file=sys.stderr)
    summary = report["summary"]
    print(
        f"infra: {'FAILED' if lines else 'ok'} {time.monotonic() - began:.1f} s"
        f" ({summary['passed']} passed, {summary['failed']} found, {len(known['accepted'])} kinds accepted)"
    )
    return 1 if lines else 0


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
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
