"""Results that some readers of JSON take and others do not: of tools, of workflows, and posted. Each call ends, and so
does its turn."""

from __future__ import annotations

from typing import Any

import pytest

from parley.tools import tool
from shared.sessions.models import NewToolResult, ToolCallStatus
from shared.sessions.records.waits import AnswerEffect
from shared.sessions.tools import of_plan
from shared.sessions.tools.kinds.workflows import outcome_of
from shared.sessions.tools.output import ToolOutput
from shared.sessions.waits.answers import workflow_result
from tests.integration.domain import call, envelopes, utc_now
from tests.integration.turns.test_deferred_results import Workshop, workshop

__all__ = ["workshop"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


def _deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


ODD: dict[str, tuple[Any, Any]] = {
    "whole number beyond 64 bits": ({"n": [2**64, -(2**63) - 1]}, {"n": [str(2**64), str(-(2**63) - 1)]}),
    "largest ones": ([2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
    "hundreds of digits": (10**400, str(10**400)),
    "as deep as it goes": (_deep(48), _deep(48)),
    "as deep as one encoder goes": (_deep(253), {"left_out": True, "size_bytes": 260}),
    "deeper than all of them": (_deep(400), {"left_out": True, "size_bytes": 407}),
    "lone surrogates and NUL": ({"\ud800": "\udfff\0"}, {"?": "?\ufffd"}),
}


@pytest.mark.parametrize("is_output", [False, True], ids=["value", "output"])
@pytest.mark.parametrize(("value", "kept"), ODD.values(), ids=ODD)
async def test_a_call_ends_whatever_its_tool_returns(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, value: Any, kept: Any, is_output: bool
) -> None:
    @tool(idempotent=True)
    def odd() -> Any:
        """Return something odd."""
        return ToolOutput("said", value) if is_output else value

    monkeypatch.setattr(of_plan, "find_tool", {"render": odd}.get)
    proposal = call("render", {})
    posted = await workshop.stores.proposed(proposal)

    report = await workshop.handle(proposal.id)

    assert report.status is ToolCallStatus.COMPLETED
    (told, *_) = envelopes(report.messages)
    assert told["data"]["tool_call"]["result"] == kept
    assert (await workshop.told(posted))["status"] == "completed"


@pytest.mark.parametrize(("value", "kept"), ODD.values(), ids=ODD)
async def test_a_workflows_outcome_answers_its_call_whatever_it_returned(
    workshop: Workshop, value: Any, kept: Any
) -> None:
    _posted, call_id = await workshop.asked()
    record = await workshop.stores.waits.of_call(call_id)
    assert record is not None

    said = workflow_result(record.wait, outcome_of(value))
    assert await workshop.stores.waits.answer(record, said, [], now=utc_now()) is AnswerEffect.ENDED
    report = await workshop.handle(call_id)

    assert report.status is ToolCallStatus.COMPLETED
    assert envelopes(report.messages)[0]["data"]["tool_call"]["result"] == kept


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"data": ["x" * 1_000_000]}, {"left_out": True, "size_bytes": 1_000_002}),
        ({"data": "z" * 1_000_000}, {"left_out": True, "size_bytes": 1_000_001}),
        ({"content": "y" * 1_000_000, "data": 1}, 1),
        ({"data": _deep(150)}, {"left_out": True, "size_bytes": 157}),
        ({"data": {"a\0": ["\0"]}}, {"a\ufffd": ["\ufffd"]}),
    ],
    ids=["a megabyte of data", "as a text", "a megabyte for the model", "deep", "NUL"],
)
async def test_what_is_posted_is_bounded_and_the_same_again_is_the_same(
    workshop: Workshop, body: dict[str, Any], kept: Any
) -> None:
    posted, call_id = await workshop.asked()

    for _ in range(2):
        await workshop.post(call_id, **body)
    report = await workshop.handle(call_id)

    assert report.status is ToolCallStatus.COMPLETED
    assert envelopes(report.messages)[0]["data"]["tool_call"]["result"] == kept
    assert len(str(await workshop.told(posted))) < 33_000


@pytest.mark.parametrize(
    "body", [b'{"data": "\\ud800"}', b'{"data": %d}' % 2**64, b'{"data": %b1%b}' % (b"[" * 300, b"]" * 300)]
)
def test_what_no_reader_takes_is_refused_before_anything_is_stored(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"hex escape|64 bits|recursion"):
        NewToolResult.model_validate_json(body)
