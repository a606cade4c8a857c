"""Compares what our engine did in a test with what the extension was recorded to do in the same test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.fidelity import differing_cases
from tests.devhost.durable import durable_harness
from tests.devhost.real.episodes import RECORDINGS, differences, executions, recorded, scrubbed

_TESTS = Path(__file__).resolve().parents[1]
RECORDED_TESTS = (
    _TESTS / "durable" / "test_durable_apps.py",
    _TESTS / "durable" / "test_durable_client.py",
    _TESTS / "real" / "test_observed.py",
)
CUT_SHORT = frozenset(
    {
        "entities_are_signalled_read_listed_and_deleted",
        "timer_that_is_not_cancelled_keeps_the_instance_running",
    }
)
"""Tests that look into our engine from some point on: on the extension they ended there."""


def case_of(node_name: str) -> str:
    """The name of a test's recording."""
    return re.sub(r"\W+", "_", node_name).removeprefix("test_").strip("_")


@pytest.fixture(autouse=True)
def as_recorded(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test with a recording: the engine handed to the worker what the extension handed."""
    case = case_of(request.node.name)
    wanted = recorded(case)
    is_real = durable_harness.RunningHost.is_real
    if wanted is None and not is_real:
        yield
        return
    folder = str(request.getfixturevalue("tmp_path"))
    durable_harness.HEARD.clear()
    yield
    if is_real:
        _keep(f"episodes/{case}.json", executions(durable_harness.HEARD, folder))
        return
    assert wanted is not None
    most = [execution["episodes"] for execution in wanted] if case in CUT_SHORT else None
    agree(f"episodes/{case}", differences(wanted, executions(durable_harness.HEARD, folder, most=most)))


@pytest.fixture
async def host(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[durable_harness.RunningHost]:
    """The sample app on a fresh task hub."""
    async with durable_harness.RunningHost(durable_harness.load_app("durable_basic"), tmp_path) as running:
        yield running
        if recorded(case_of(request.node.name)) is not None:
            # What is handed to the worker last belongs to the recording.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await running.settle(1)


def agree(case: str, told: Sequence[str]) -> None:
    """Fail when a case differs, or when one that the table of differences names does not."""
    if case in differing_cases():
        assert told, f"{case} is as the extension did it: take it out of devhost/durable/fidelity.py"
    else:
        assert not told, "\n".join([f"{case}: not as the extension did it:", *told])


def observed(case: str) -> dict[str, Any]:
    """What became of the instances of a case on the extension."""
    entries: list[dict[str, Any]] = json.loads((RECORDINGS / "observed.json").read_text())
    return next(entry for entry in entries if entry.pop("case") == case)


def observed_as_recorded(case: str, found: dict[str, Any]) -> None:
    """Compare what became of the instances of a case, or record it."""
    if durable_harness.RunningHost.is_real:
        _keep("observed.json", [{"case": case, **scrubbed(found)}])
        return
    agree(f"observed/{case}", differences([observed(case)], [scrubbed(found)]))


def answered_as_recorded(call: str, status: int, text: str) -> None:
    """Compare an answer of the management API, or record it."""
    body: Any = json.loads(text) if text.startswith(("{", "[")) else text or None
    if isinstance(body, dict):
        body.pop("StackTrace", None)
        body = "the links of the new instance" if "statusQueryGetUri" in body else body
    elif isinstance(body, list):
        body = "a list of instances"
    found = {"call": call, "status": status, "body": body}
    if durable_harness.RunningHost.is_real:
        _keep("answers.json", [found])
        return
    entries = {entry["call"]: entry for entry in json.loads((RECORDINGS / "answers.json").read_text())}
    agree(f"answers/{call}", differences([entries[call]], [found]))


def _keep(name: str, fresh: Sequence[dict[str, Any]]) -> None:
    """Add to a recording, one entry a line."""
    path = Path(os.environ["REAL_RECORDINGS"]) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [*(json.loads(path.read_text()) if path.is_file() and "episodes" not in name else []), *fresh]
    path.write_text("[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n")
