"""What a turn costs in calls is written down in `docs/measured-turn.json`, and no change makes it more unseen.

Whoever makes it more or less on purpose runs `python -m devtools.measure_turn` and `python -m devtools.figures`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from devtools.measure_turn import RESULT, Measurement, measuring
from devtools.measured_kinds import KINDS, WAITS
from devtools.statement_log import table

pytestmark = pytest.mark.timeout(180)

COUNTED = ("activities", "instances", "orchestrator_episodes", "history_events", "queue_messages")
"""The same for each turn of a kind, whatever is said in it."""
BYTES = 1.02
"""Ids and numbers in a history are of about the same length."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def measurement(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Measurement]:
    folder: Path = tmp_path_factory.mktemp("costs")
    async with measuring(folder, report=lambda *_: None, at_once=True) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_costs_what_is_written_down(measurement: Measurement, kind: str) -> None:
    written = json.loads(RESULT.read_text("utf-8"))["per_turn"][kind]
    measured = await measurement.of(kind, turns=2)
    found = measured.per_turn

    if kind in WAITS:
        # What is faster than the look before the wait costs less.
        assert {name: found[name] for name in COUNTED if found[name] > written[name]} == {}
    else:
        assert {name: found[name] for name in COUNTED} == {name: written[name] for name in COUNTED}
    assert found["postgres_transactions"] <= written["postgres_transactions"], table(measured.transactions, 2)
    assert found["history_bytes"] <= written["history_bytes"] * BYTES
    # Of sessions that were made in the first seconds of an event log it is not known that nobody listens.
    assert found["functions"] - found["functions_relay"] <= written["functions"] - written["functions_relay"]
    # The model of this test answers at once, so this only finds what is asked beside the stream.
    assert found["redis_commands"] <= written["redis_commands"]
