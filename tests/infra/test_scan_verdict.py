"""What makes the security scan fail: a file it cannot read and a scan of nothing, as much as a finding."""

from __future__ import annotations

from typing import Any

import pytest

from devtools.infra.scan import findings


def _report(**changes: Any) -> dict[str, Any]:
    check = {"check_id": "CKV_1", "check_name": "locked", "file_path": "/modules/a.bicep", "file_line_range": [7, 9]}
    results = {"parsing_errors": changes.pop("unread", []), "failed_checks": [check] if changes.pop("found", 0) else []}
    summary = {"parsing_errors": len(results["parsing_errors"]), "resource_count": 3, "passed": 1, "failed": 0}
    return {"summary": summary | changes, "results": results}


@pytest.mark.parametrize(
    ("report", "accepted", "said"),
    [
        (_report(), {}, []),
        (_report(found=1), {"CKV_1": "a reason"}, []),
        (_report(found=1), {}, ["modules/a.bicep:7 CKV_1 locked"]),
        (_report(unread=["/x/b.bicep"]), {}, ["/x/b.bicep: the scanner cannot read it"]),
        (_report(parsing_errors=2), {}, ["2 files could not be read"]),
        (_report(resource_count=0), {}, ["the scanner saw no resource"]),
        (_report(), {"CKV_1": "a reason"}, ["checkov.json accepts CKV_1, which nothing needs"]),
    ],
)
def test_a_finding_that_nobody_accepted_and_whatever_was_not_read_fails_the_scan(
    report: dict[str, Any], accepted: dict[str, str], said: list[str]
) -> None:
    assert findings(report, accepted) == said
