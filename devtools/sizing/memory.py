"""The memory of one instance while it receives and analyses uploads.

Azure's host reads every body with a Content-Length whole, as text, before it calls a function. Measured on the host
4.1037: six bodies of 95 MB took the host from 219 MB to 2.55 GB.
"""

from __future__ import annotations

from devtools.sizing.costs import INSTANCE_GB
from devtools.sizing.scale import table
from shared.sessions.files.analyzer import ANALYSES
from shared.sessions.files.readers.analysis import Limits

BODY_LIMIT_BYTES, REQUESTS_AT_ONCE = 26_279_936, 100
"""FUNCTIONS_REQUEST_BODY_SIZE_LIMIT and perInstanceConcurrency of infra/modules/app/app.bicep; a test compares them."""

HOST_MB, WORKER_MB = 279, 162
"""Resident memory of host and worker under load, side by side on the real host with 64 sessions."""
HELD_PER_BYTE = (2_550 - 219) / (6 * 95)
"""Memory that the host holds per byte of a body."""
ANALYSED_MB = Limits().max_child_memory_bytes / 1e6
"""Most memory of a process that reads a PDF; files of other kinds take less."""


def memory_table() -> str:
    """What the largest uploads at once, and hostile files under analysis, take of an instance."""
    instance_mb = INSTANCE_GB * 1024**3 / 1e6
    held_mb = HELD_PER_BYTE * BODY_LIMIT_BYTES / 1e6
    used_mb = HOST_MB + WORKER_MB
    free_mb = instance_mb - used_mb
    analysed_mb = ANALYSES.threads * ANALYSED_MB
    return table(
        ["memory of an instance", "MB"],
        [
            ["bought", f"{instance_mb:,.0f}"],
            ["host and worker under load", f"{used_mb:,}"],
            ["one of the largest uploads, while it is received", f"{held_mb:,.0f}"],
            ["six of them, with host and worker", f"{used_mb + 6 * held_mb:,.0f}"],
            [f"largest uploads at once that fill it: {free_mb // held_mb:,.0f}", f"{instance_mb:,.0f}"],
            [
                f"as many as requests at once ({REQUESTS_AT_ONCE})",
                f"{used_mb + REQUESTS_AT_ONCE * held_mb:,.0f}",
            ],
            ["one process that reads a hostile PDF, at most", f"{ANALYSED_MB:,.0f}"],
            [
                f"as many as there are at once ({ANALYSES.threads}), with host and worker",
                f"{used_mb + analysed_mb:,.0f}",
            ],
            [
                f"largest uploads at once beside them: {(free_mb - analysed_mb) // held_mb:,.0f}",
                f"{instance_mb:,.0f}",
            ],
        ],
    )
