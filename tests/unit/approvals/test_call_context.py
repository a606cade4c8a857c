"""What led to a call: bounded, cut where it says so, and only what the policy shows to whoever it is for."""

from __future__ import annotations

import pytest

from shared.sessions.approvals.call_context import CARD, MAX_BYTES, PAGE, ApprovalContext, context_of
from shared.sessions.models import ToolCallStatus
from shared.sessions.records.approval_policy import ApprovalPolicy, ShownContext
from shared.sessions.records.approvals import CONTEXT_CHARS, CallBefore, CutText
from tests.support.cards import context

EMPTY = ApprovalContext(approval_id="a", shows=ShownContext.NONE, may_open_session=False)


def test_it_tells_who_asked_what_and_why_the_agent_calls() -> None:
    before = (_call("fetch_url", 1), _call("calculate", 1), _call("fetch_url", 2))
    found = context(
        "Pay it", before=before, before_count=5, sources=frozenset({"calculate", "fetch_url", "attached files"})
    )
    told = context_of("a", found, None)

    assert (told.shows, told.may_open_session) == (ShownContext.FULL, False)
    for excerpt in (told.question, told.said, told.reasoning):
        assert excerpt is not None
        assert (excerpt.text, excerpt.missing) == ("Pay it", 0)
    assert [(call.tool, call.is_untrusted) for call in told.earlier] == [
        ("fetch_url", True),
        ("calculate", False),
        ("fetch_url", True),
    ]
    assert [call.said is not None for call in told.earlier] == [True, False, True], "an answer says it once"
    assert told.more_earlier == 2
    assert [(read.name, read.is_untrusted, read.is_private) for read in told.read] == [
        ("attached files", True, True),
        ("fetch_url", True, False),
        ("calculate", False, False),
    ]


@pytest.mark.parametrize("limits", [PAGE, CARD])
@pytest.mark.parametrize("text", ["x", '"', "🎉", "\x01", "\u202e", "\U000e0041", "\n"])
def test_it_is_bounded_and_says_what_is_left_out(text: str, limits: object) -> None:
    limits = PAGE if limits is PAGE else CARD
    found = context(
        "a" + text * (CONTEXT_CHARS - 1),
        length=10**9,
        sources=frozenset(f"tool_{number}" for number in range(200)),
        files=("f" * 300,) * 50,
        before_count=10_000,
    )
    told = context_of("a", found, None, limits=limits)

    assert len(told.model_dump_json().encode()) <= MAX_BYTES
    assert told.question is not None
    assert len(told.question.text) <= limits.question
    assert told.question.missing >= 10**9 - CONTEXT_CHARS
    assert len(told.earlier) + told.more_earlier == 10_000
    assert len(told.earlier) <= limits.calls
    assert len(told.files) + told.more_files == 50
    assert len(told.read) + told.more_read == 200


def test_the_oldest_calls_make_room_where_all_do_not_fit() -> None:
    wide = "🎉" * CONTEXT_CHARS
    whole = CutText(wide, len(wide))
    before = tuple(CallBefore(f"t{step}", step, ToolCallStatus.COMPLETED, whole, whole, whole) for step in range(12))
    told = context_of("a", context(wide, before=before, before_count=12), None)

    assert len(told.model_dump_json().encode()) <= MAX_BYTES
    assert 0 < len(told.earlier) < 12
    assert told.earlier[-1].tool == "t11"
    assert told.more_earlier == 12 - len(told.earlier)


def test_a_policy_keeps_back_what_it_says_and_nothing_from_people_of_the_session() -> None:
    found = context()

    assert context_of("a", found, ShownContext.NONE) == EMPTY
    question = context_of("a", found, ShownContext.QUESTION)
    assert question.question is not None
    assert (question.said, question.reasoning, question.data, question.earlier, question.read) == (
        None,
        None,
        None,
        [],
        [],
    )
    inside = context_of("a", found, ShownContext.NONE, in_session=True)
    assert inside == context_of("a", found, None, in_session=True)
    assert inside.may_open_session


def test_of_a_session_that_is_gone_nothing_is_left() -> None:
    assert context_of("a", None, ShownContext.NONE) == EMPTY


def test_what_a_trigger_brought_is_shown_and_the_text_of_files_is_not() -> None:
    assert context_of("a", context(files=()), None).data is not None
    assert context_of("a", context(), None).data is None


def test_a_policy_that_says_nothing_of_it_reads_as_before() -> None:
    assert "context" not in ApprovalPolicy().model_dump(mode="json")
    assert ApprovalPolicy.model_validate({"context": "question"}).model_dump(mode="json")["context"] == "question"
    with pytest.raises(ValueError, match="context"):
        ApprovalPolicy.model_validate({"context": "everything"})


def _call(name: str, step: int) -> CallBefore:
    text = CutText("text", 4)
    return CallBefore(name, step, ToolCallStatus.COMPLETED, text, text, text)
