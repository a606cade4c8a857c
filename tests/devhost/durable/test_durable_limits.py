"""How large a payload may be, by the backend that host.json names.

Source of the limit: "Large payload support with Durable Task Scheduler" of Microsoft Learn: about 1 MiB, and apps on
the Python SDK 1.x cannot put more elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from devhost.durable.limits import SCHEDULER_LIMIT_BYTES, too_large
from tests.devhost.durable.durable_harness import RunningHost, load_app

LARGE = "x" * (SCHEDULER_LIMIT_BYTES + 1)
FITS = "x" * (SCHEDULER_LIMIT_BYTES // 2)


def host_json(backend: str) -> dict[str, Any]:
    return {"version": "2.0", "extensions": {"durableTask": {"storageProvider": {"type": backend}}}}


@pytest.fixture
async def scheduler(tmp_path: Path) -> AsyncIterator[RunningHost]:
    async with RunningHost(load_app("durable_basic"), tmp_path, host_json("azureManaged")) as host:
        yield host


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [("a" * 8, False), ("a" * 9, True), ("é" * 4, False), ("é" * 5, True), ("😀" * 2, False), ("😀" * 3, True)],
)
def test_bytes_of_utf_8_count(text: str, is_refused: bool) -> None:
    assert (too_large("it", text, 8) is not None) == is_refused
    assert too_large("it", text, None) is None


async def test_a_client_is_told_of_a_payload_that_is_too_large(scheduler: RunningHost) -> None:
    with pytest.raises(Exception, match="takes 1048576 at most"):
        await scheduler.client.start_new("two_events", "a", LARGE)
    assert not await scheduler.client.get_status("a")
    await scheduler.client.start_new("two_events", "a", FITS)
    with pytest.raises(Exception, match=r"500|takes 1048576"):
        await scheduler.client.raise_event("a", "One", LARGE)
    await scheduler.client.raise_event("a", "One", FITS)
    await scheduler.client.raise_event("a", "Two", 2)
    assert len((await scheduler.end("a")).output[0]) > len(FITS)
    with pytest.raises(Exception, match=r"500|takes 1048576"):
        await scheduler.client.signal_entity(df.EntityId("counter", "k"), "add", LARGE)


@pytest.mark.parametrize("program", ["makes_large_result", "gives_large_input", "gives_child_large_input"])
async def test_a_call_with_a_payload_that_is_too_large_fails(scheduler: RunningHost, program: str) -> None:
    status = await scheduler.run(program, SCHEDULER_LIMIT_BYTES)
    assert status.runtime_status.value == "Failed"
    assert "takes 1048576 at most" in status.output


@pytest.mark.parametrize("given", [{"operation": "add", "sends": True}, {"operation": "fill", "sends": False}])
async def test_an_entity_operation_with_an_input_or_a_state_that_is_too_large_fails(
    scheduler: RunningHost, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    status = await scheduler.run("calls_entity", {**given, "size": SCHEDULER_LIMIT_BYTES})
    assert status.runtime_status.value == "Failed"
    assert "takes 1048576 at most" in status.output
    # The state stays what it was: a later operation finds none.
    assert not (await scheduler.client.read_entity_state(df.EntityId("Counter", "k"))).entity_exists
    assert ("failed operation 'fill'" in caplog.text) == (given["operation"] == "fill")


async def test_an_orchestration_with_an_output_or_a_next_input_that_is_too_large_fails(scheduler: RunningHost) -> None:
    for how in ("returns", "continues"):
        status = await scheduler.run("ends_large", {"how": how, "size": SCHEDULER_LIMIT_BYTES})
        assert status.runtime_status.value == "Failed"
        assert "takes 1048576 at most" in status.output


@pytest.mark.parametrize("backend", ["azureStorage", "mssql"])
async def test_other_backends_take_what_is_larger(tmp_path: Path, backend: str) -> None:
    async with RunningHost(load_app("durable_basic"), tmp_path, host_json(backend)) as host:
        assert (await host.run("makes_large_result", SCHEDULER_LIMIT_BYTES)).output == SCHEDULER_LIMIT_BYTES
