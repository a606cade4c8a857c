"""The memory of one instance while it receives uploads.

Azure's host reads every body with a Content-Length whole, as text, before it calls a function. Measured on the host
4.1037: six bodies of 95 MB took the host from 219 MB to 2.55 GB.
"""

from __future__ import annotations

from devtools.sizing.scale import ROOT, table

HOST_MB, WORKER_MB = 279, 162
"""Resident memory of host and worker under load, side by side on the real host with 64 sessions."""
HELD_PER_BYTE = (2_550 - 219) / (6 * 95)
"""Memory that the host holds per byte of a body."""


def memory_table() -> str:
    """What the largest uploads at once take of an instance."""
    app = (ROOT / "infra" / "modules" / "app" / "app.bicep").read_text("utf-8")
    upload_mb = _number(app, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '") / 1e6
    requests = _number(app, "perInstanceConcurrency: ")
    instance_mb = _number((ROOT / "infra" / "main.bicep").read_text("utf-8"), "instanceMemoryMB: ") * 1.048576
    held_mb = HELD_PER_BYTE * upload_mb
    free_mb = instance_mb - HOST_MB - WORKER_MB
    return table(
        ["memory of an instance", "MB"],
        [
            ["bought", f"{instance_mb:,.0f}"],
            ["host and worker under load", f"{HOST_MB + WORKER_MB:,}"],
            ["one of the largest uploads, while it is received", f"{held_mb:,.0f}"],
            ["six of them, with host and worker", f"{HOST_MB + WORKER_MB + 6 * held_mb:,.0f}"],
            [f"largest uploads at once that fill it: {free_mb // held_mb:,.0f}", f"{instance_mb:,.0f}"],
            [f"as many as requests at once ({requests:,.0f})", f"{HOST_MB + WORKER_MB + requests * held_mb:,.0f}"],
        ],
    )


def _number(text: str, before: str) -> float:
    digits = text.partition(before)[2]
    return float(digits[: len(digits) - len(digits.lstrip("0123456789"))])
