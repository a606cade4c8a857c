"""The error handler: what a caller reads of an error, and what stays in the log."""

from __future__ import annotations

import logging

import pytest

from shared.errors import HTTP_STATUS, AppError, BudgetExceeded, ErrorCode, InvalidInput, NotAuthenticated, Transient
from shared.sessions.error_handler import Problem, SessionErrorHandler

HANDLER = SessionErrorHandler(logging.getLogger("tests.errors"))


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_status_and_a_whole_document(code: ErrorCode) -> None:
    answer = HANDLER.answer(AppError(code, "Said to be read."), "c-1")

    problem = Problem.model_validate(answer.document)
    assert (answer.status, problem.status, problem.code) == (HTTP_STATUS[code], HTTP_STATUS[code], code)
    assert (problem.detail, problem.correlation_id) == ("Said to be read.", "c-1")
    assert problem.type == "urn:parley:error:" + code.lower().replace("_", "-")
    assert problem.errors is None


def test_what_nobody_foresaw_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    answer = HANDLER.handle(RuntimeError("SELECT secret"), doing="GET /x", correlation_id="c-1")

    assert (answer.status, answer.document["code"]) == (500, ErrorCode.INTERNAL_ERROR)
    assert "secret" not in str(answer)
    assert "SELECT secret" in caplog.text
    assert "GET /x" in caplog.text


def test_the_cause_of_a_fault_of_ours_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    fault = Transient(ErrorCode.DATABASE_ERROR, "The database cannot be reached just now.")
    fault.__cause__ = OSError("10.0.0.7 refused")

    answer = HANDLER.handle(fault, doing="GET /x", correlation_id="c-1")

    assert "10.0.0.7" not in str(answer)
    assert "10.0.0.7 refused" in caplog.text


def test_a_callers_mistake_is_told_by_field_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    mistake = InvalidInput(ErrorCode.VALIDATION_ERROR, "No.", errors=[{"field": "a", "message": "is missing"}])

    answer = HANDLER.handle(mistake, doing="GET /x", correlation_id="c-1")

    assert answer.document["errors"] == ({"field": "a", "message": "is missing"},)
    assert caplog.text == ""


def test_a_caller_nobody_vouches_for_is_logged_without_what_they_say_of_themselves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = HANDLER.handle(NotAuthenticated("x-dev-user must be NAME."), doing="GET /x", correlation_id="c-1")

    assert answer.status == 401
    (line,) = caplog.records
    assert (line.levelname, line.getMessage()) == ("WARNING", "GET /x: refused, no trusted caller identity")


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (BudgetExceeded(ErrorCode.RATE_LIMITED, "Slow down.", retry_after_s=1.2), "2"),
        (BudgetExceeded(ErrorCode.RATE_LIMITED, "Slow down."), "1"),
        (Transient(ErrorCode.CACHE_ERROR, "Away.", retry_after_s=0.1), "1"),
        (BudgetExceeded(ErrorCode.TOKEN_LIMIT, "Used up."), None),
        (InvalidInput(ErrorCode.VALIDATION_ERROR, "No."), None),
    ],
)
def test_who_may_come_back_is_told_when_and_never_too_early(error: AppError, seconds: str | None) -> None:
    assert HANDLER.answer(error, "c-1").headers.get("Retry-After") == seconds
