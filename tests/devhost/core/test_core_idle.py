"""A host that nobody calls sleeps: it looks at nothing again and again. Counted are wake-ups, which a busy machine can
only make fewer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from devhost.testing import host_process

APP = """
import azure.durable_functions as df
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response
app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("ping")
@app.generic_output_binding(
    arg_name="events", type="signalR", hub_name="h", connection_string_setting="AzureSignalRConnectionString"
)
async def ping(req: Request, events: func.Out[str]) -> Response:
    return Response("pong")

@app.orchestration_trigger(context_name="context")
def waits(context):
    yield context.wait_for_external_event("never")

@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
def yearly(timer: func.TimerRequest) -> None:
    pass
"""
WATCHED_S = 4
MOST_A_SECOND = 2


def _wakeups(process: psutil.Process) -> int:
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counters are read from /proc")
def test_host_and_worker_sleep_while_nobody_calls(make_app: Callable[..., Path], tmp_path: Path) -> None:
    with host_process(make_app(function_app__py=APP), tmp_path / "data") as host:
        parent = psutil.Process(host.process.pid)
        watched = {"host": parent, "worker": parent.children()[0]}
        time.sleep(1)  # what a start still does
        before = {name: _wakeups(process) for name, process in watched.items()}
        time.sleep(WATCHED_S)
        found = {name: _wakeups(process) - before[name] for name, process in watched.items()}
    assert all(count <= MOST_A_SECOND * WATCHED_S for count in found.values()), found
