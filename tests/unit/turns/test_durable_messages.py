"""What crosses the durable boundary, between versions of the app that run at the same time."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.durable.messages import (
    CHANGED_DETAIL,
    LOST_DETAIL,
    CallModelInput,
    RequestApprovalResult,
    explain_failure,
)


def test_a_field_of_a_newer_version_is_left_aside() -> None:
    sent = {"turn_id": "t1", "step": 1, "tries": 0, "schema_version": 2, "of_tomorrow": {"x": 1}}
    assert CallModelInput.load(sent) == CallModelInput(turn_id="t1", step=1, tries=0, schema_version=2)


def test_what_an_older_version_did_not_send_has_its_default() -> None:
    assert RequestApprovalResult.load({"approval_id": "a1"}).remind_every_s == 0
    assert RequestApprovalResult(approval_id="a1").dump() == {"approval_id": "a1"}


@pytest.mark.parametrize("sent", [{}, {"turn_id": "t1", "step": "one", "tries": 0}, "[]", "not json"])
def test_what_is_missing_or_of_another_type_is_refused(sent: object) -> None:
    with pytest.raises(ValidationError):
        CallModelInput.load(sent)


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        # Of the extension 3.19.0 when its worker was killed inside an orchestrator.
        ("'call_model' (version ''), but the current replay execution hasn't (yet?) scheduled this task.", LOST_DETAIL),
        ("'call_model', but the current replay execution instead scheduled 'ask_model'.", CHANGED_DETAIL),
    ],
)
def test_a_worker_that_died_is_not_taken_for_another_version_of_the_app(words: str, detail: str) -> None:
    text = f"Non-Deterministic workflow detected: A previous execution of this orchestration scheduled {words}"
    assert explain_failure(text) == ("INTERNAL_ERROR", detail)
