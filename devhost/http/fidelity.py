"""Where this host's HTTP differs from Azure's on purpose: one table.

Everything else is answered as the real host was recorded to answer (`tests/devhost/real`), ids and times aside. The
tests read this table: a request that a row names must be answered differently, and no other may.
"""

from __future__ import annotations

from devhost.extensions.contract import Difference

DIFFERENCES = (
    Difference(
        what="a request for a name that is not this machine's",
        azure="answered; the app finds the name in Host or x-forwarded-host",
        ours="421, unless the name is loopback or in DEVHOST_ALLOWED_HOSTS; the same for x-forwarded-host",
        why="a web page can let its own name resolve to a laptop (DNS rebinding)",
        cases=("streaming/echo xf", "streaming/echo host", "streaming/http10"),
    ),
    Difference(
        what="a request without Host",
        azure="400 without a body; with HTTP/1.0 the function runs and its own code may fail",
        ours="400 that says why",
        why="as above; and the reader learns it",
        cases=("classic/echo hostless10", "classic/echo hostless11"),
    ),
    Difference(
        what="a header that is not ASCII, or x-ms-invocation-id from the caller",
        azure="the invocation hangs until functionTimeout, which ends the worker",
        ours="passed on, dropped (the harsh host hangs)",
        why="nothing hangs on a laptop",
        cases=("streaming/echo utf8 header",),
    ),
    Difference(
        what="a method that the worker's server does not take",
        azure="its 400 or 405 is passed on, and the invocation waits until functionTimeout, which ends the worker",
        ours="400 without a body, or 405; the invocation ends",
        why="as above",
        cases=("streaming/echo custom method", "streaming/echo propfind"),
    ),
    Difference(
        what="a body over the limit",
        azure="500",
        ours="413",
        why="says what is wrong; the app must not lean on either",
        cases=("classic/over limit cl",),
    ),
    Difference(
        what="CORS",
        azure="done by the platform's front, which the recorded host does not have",
        ours="done by this host: Host.CORS of local.settings.json",
        why="there is no front on a laptop",
        cases=("classic/cors get", "classic/cors preflight bad"),
    ),
    Difference(
        what="the trace context of an invocation",
        azure="empty unless telemetry is on",
        ours="the caller's",
        why="an app that reads it can be tried",
        cases=("classic/invocation tp",),
    ),
    Difference(
        what="/admin without the master key",
        azure="401 without a body",
        ours="401 that says where the key is",
        why="the reader learns it",
        cases=("classic/admin run nokey",),
    ),
    Difference(
        what="the answer with keys",
        azure="no cache-control",
        ours="no-store",
        why="a browser must not keep keys",
        cases=("classic/admin keys", "classic/admin fkeys"),
    ),
    Difference(
        what="the description of a function",
        azure="also links to its files, its test data and the host's file API",
        ours="without these",
        why="there is no file API",
        cases=("classic/admin functions", "classic/admin function echo"),
    ),
    Difference(
        what="the page at /",
        azure="Microsoft's",
        ours="ours",
        why="it leads to /admin/pages",
        cases=("classic/root", "classic/root q"),
    ),
    Difference(
        what="an upload that stalls",
        azure="500 after five seconds without a byte",
        ours="waits",
        why="a debugger may hold the caller",
    ),
    Difference(
        what="a request that takes longer than 230 s",
        azure="the platform's front ends it",
        ours="goes on until functionTimeout",
        why="as above",
    ),
)


def differing_cases() -> frozenset[str]:
    """Every recorded request that a row names."""
    return frozenset(case for row in DIFFERENCES for case in row.cases)
