"""A turn as it is now, told from what is stored: the same response as the stream of it makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.sessions.approvals.models import Approval
from shared.sessions.doors.below import WatchedTurn
from shared.sessions.doors.mcp.tools import answered
from shared.sessions.doors.responses.door import ResponsesDoor
from shared.sessions.doors.responses.ids import ResponseId
from shared.sessions.doors.responses.items import Head
from shared.sessions.doors.snapshot import events_of
from shared.sessions.models import (
    ApprovalStatus,
    FinishReason,
    Message,
    MessageRole,
    MessageStatus,
    Question,
    ToolCall,
    ToolCallStatus,
    ToolWait,
    Turn,
    TurnError,
    TurnStatus,
    Usage,
    WaitKind,
    WaitStatus,
)
from shared.sessions.records.approval_policy import ApprovalPolicy
from tests.unit.doors.told import ASKED, FIRST, NOTE, SECOND, SESSION, SUM, TURN

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OTHER = "00000000-0000-0000-0000-000000000016"


def turn(status: TurnStatus, **fields: Any) -> Turn:
    return Turn(
        id=TURN,
        session_id=SESSION,
        message_id="m",
        status=status,
        steps=1,
        usage=Usage(input_tokens=7, output_tokens=3),
        created_at=NOW,
        started_at=NOW,
        ended_at=None,
        **{"error": None, **fields},
    )


def call(call_id: str, status: ToolCallStatus, result: Any = None, name: str = "http_request") -> ToolCall:
    return ToolCall(id=call_id, message_id=FIRST, name=name, arguments={"b": 1, "a": 2}, status=status, result=result)


def answer(message_id: str, content: str, *calls: ToolCall, status: MessageStatus = MessageStatus.COMPLETED) -> Message:
    return Message(
        id=message_id,
        session_id=SESSION,
        turn_id=TURN,
        role=MessageRole.ASSISTANT,
        content=content,
        tool_calls=list(calls),
        finish_reason=FinishReason.TOOL_CALLS if calls else FinishReason.STOP,
        status=status,
        created_at=NOW,
    )


def approval(status: ApprovalStatus, *, minutes: int = 0, **fields: Any) -> Approval:
    decided_at = None if status is ApprovalStatus.PENDING else NOW + timedelta(minutes=minutes)
    return Approval.model_validate(
        {
            "id": ASKED,
            "tool_call_id": NOTE,
            "session_id": SESSION,
            "turn_id": TURN,
            "tool": "http_request",
            "arguments": {"b": 1, "a": 2},
            "status": status,
            "requested_by": "olga",
            "requested_at": NOW,
            "expires_at": NOW,
            "decided_at": decided_at,
            "policy": ApprovalPolicy(),
            "quorum": 1,
            "votes": [],
            **fields,
        }
    )


def shown(now: Turn, answers: list[Message], approvals: list[Approval], start: str | None = None) -> dict[str, Any]:
    door, progress = ResponsesDoor(Head(ResponseId(SESSION, TURN, start), "assistant", 0, {})), WatchedTurn()
    for envelope in events_of(now, answers, approvals):
        for one in progress.told(envelope):
            door.event(one)
    if progress.is_waiting:
        door.waiting()
    return door.response()


def kinds(response: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(item["type"], item.get("name")) for item in response["output"]]


def test_a_turn_that_runs_shows_what_is_complete_and_not_what_is_being_written() -> None:
    writes = answer(SECOND, "", status=MessageStatus.STREAMING)
    response = shown(
        turn(TurnStatus.RUNNING), [answer(FIRST, "let me", call(SUM, ToolCallStatus.COMPLETED)), writes], []
    )
    assert response["status"] == "in_progress"
    assert kinds(response) == [("message", None), ("mcp_call", "http_request")]


def test_a_turn_that_waits_is_a_completed_response_that_asks() -> None:
    calls = [call(NOTE, ToolCallStatus.PENDING), call(SUM, ToolCallStatus.COMPLETED, "2", "calculate")]
    response = shown(turn(TurnStatus.WAITING_APPROVAL), [answer(FIRST, "", *calls)], [approval(ApprovalStatus.PENDING)])
    assert response["status"] == "completed"
    assert kinds(response) == [("mcp_approval_request", "http_request"), ("mcp_call", "calculate")]


def test_while_another_call_runs_it_is_not_over() -> None:
    calls = [call(NOTE, ToolCallStatus.PENDING), call(SUM, ToolCallStatus.PENDING, name="calculate")]
    response = shown(turn(TurnStatus.WAITING_APPROVAL), [answer(FIRST, "", *calls)], [approval(ApprovalStatus.PENDING)])
    assert response["status"] == "in_progress"


def test_the_response_to_a_decision_begins_with_it_and_not_with_an_earlier_one() -> None:
    calls = [call(NOTE, ToolCallStatus.COMPLETED, 1), call(OTHER, ToolCallStatus.COMPLETED, 2)]
    later = approval(ApprovalStatus.APPROVED, minutes=2)
    earlier = approval(ApprovalStatus.APPROVED, minutes=1, id=OTHER, tool_call_id=OTHER)
    told = turn(TurnStatus.COMPLETED), [answer(FIRST, "", *calls), answer(SECOND, "done")], [later, earlier]
    assert [item.get("output") for item in shown(*told, start=NOTE)["output"]] == ["1", None]
    assert [item.get("output") for item in shown(*told, start=OTHER)["output"]] == ["2", "1", None]


def test_a_timeout_says_so() -> None:
    calls = [call(NOTE, ToolCallStatus.REJECTED)]
    told = [answer(FIRST, "", *calls), answer(SECOND, "ok")]
    response = shown(turn(TurnStatus.COMPLETED), told, [approval(ApprovalStatus.TIMED_OUT)])
    [ran] = [item for item in response["output"] if item["type"] == "mcp_call"]
    assert (ran["status"], ran["error"]["content"]) == ("failed", "Timed out")


def test_a_cancelled_and_a_failed_turn_say_so() -> None:
    waits = answer(FIRST, "", call(NOTE, ToolCallStatus.FAILED, "cancelled"))
    cancelled = shown(turn(TurnStatus.CANCELLED), [waits], [approval(ApprovalStatus.CANCELLED)])
    assert cancelled["status"] == "cancelled"
    failed = shown(turn(TurnStatus.FAILED, error=TurnError(code="LLM_ERROR", detail="it broke")), [], [])
    assert (failed["status"], failed["error"]["message"]) == ("failed", "LLM_ERROR: it broke")


def wait(kind: WaitKind, call_id: str = NOTE) -> ToolWait:
    return ToolWait(
        id=f"w-{call_id}",
        tool_call_id=call_id,
        tool="http_request",
        kind=kind,
        status=WaitStatus.PENDING,
        asked_by=None,
        asked_of="olga",
        questions=[Question(id="who", message="For whom?", requested_schema={})],
        opened_at=NOW,
        expires_at=NOW,
    )


def test_a_turn_that_waits_for_its_client_shows_the_call_that_is_its_own_to_run() -> None:
    pending = call(NOTE, ToolCallStatus.PENDING).model_copy(update={"is_client": True})
    waiting = turn(TurnStatus.WAITING_INPUT, waits=[wait(WaitKind.CLIENT)])
    response = shown(waiting, [answer(FIRST, "", pending)], [])
    assert (response["status"], kinds(response)) == ("completed", [("function_call", "http_request")])

    done = pending.model_copy(update={"status": ToolCallStatus.COMPLETED, "result": "Oslo"})
    over = turn(TurnStatus.COMPLETED), [answer(FIRST, "", done), answer(SECOND, "In Oslo.")], []
    assert kinds(shown(*over)) == [("function_call", "http_request"), ("message", None)]
    assert kinds(shown(*over, start=NOTE)) == [("message", None)]


def test_a_turn_that_asks_its_user_is_incomplete_and_says_so_to_an_mcp_client() -> None:
    waiting = turn(TurnStatus.WAITING_INPUT, waits=[wait(WaitKind.INPUT)])
    response = shown(waiting, [answer(FIRST, "", call(NOTE, ToolCallStatus.PENDING))], [])
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "input_required"})
    told = answered(waiting, "task", None, [])
    assert "waits for an answer of olga" in told["content"][0]["text"]
    assert [one["id"] for one in told["structuredContent"]["waits"]] == [f"w-{NOTE}"]


def test_a_turn_that_waits_for_a_result_from_elsewhere_goes_on() -> None:
    waiting = turn(TurnStatus.WAITING_INPUT, waits=[wait(WaitKind.RESULT)])
    response = shown(waiting, [answer(FIRST, "", call(NOTE, ToolCallStatus.PENDING))], [])
    assert (response["status"], kinds(response)) == ("in_progress", [("mcp_call", "http_request")])
