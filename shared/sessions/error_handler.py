"""SessionErrorHandler: an error as the problem document of the wire contract (RFC 9457)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from shared.errors import AppError, ErrorCode, NotAuthenticated

TYPE_BASE = "urn:parley:error:"
"""Error types are URNs, not URLs: they are the same wherever Parley is deployed."""


class FieldProblem(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    code: ErrorCode
    correlation_id: str
    errors: list[FieldProblem] | SkipJsonSchema[None] = Field(None, exclude_if=lambda errors: errors is None)


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as an HTTP response: status, RFC 9457 problem document and headers."""

    status: int
    document: dict[str, Any]
    headers: dict[str, str]


class SessionErrorHandler:
    """The one place that turns exceptions into responses.

    Invariant: a caller reads only the code and the `safe_message`; causes and unexpected exceptions go to the log. A
    retryable error carries `Retry-After`.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def handle(self, exc: Exception, *, doing: str, correlation_id: str) -> ErrorAnswer:
        """The response to a request that failed; logs what an operator has to look at. doing: names it in the log."""
        if not isinstance(exc, AppError):
            self._log.error("%s failed", doing, exc_info=exc)
            exc = AppError(ErrorCode.INTERNAL_ERROR, "An unexpected error occurred.")
        elif exc.status >= 500:
            self._log.warning("%s: %s", doing, exc, exc_info=exc.__cause__)
        elif isinstance(exc, NotAuthenticated):
            # The platform authenticates callers first: somebody went around it, or a setting is wrong.
            self._log.warning("%s: refused, no trusted caller identity", doing)
        return self.answer(exc, correlation_id)

    def answer(self, exc: AppError, correlation_id: str) -> ErrorAnswer:
        """The response for a known error."""
        document: dict[str, Any] = {
            "type": TYPE_BASE + exc.code.lower().replace("_", "-"),
            "title": HTTPStatus(exc.status).phrase,
            "status": exc.status,
            "detail": exc.safe_message,
            "code": exc.code,
            "correlation_id": correlation_id,
        }
        if exc.errors:
            document["errors"] = exc.errors
        headers = {"x-correlation-id": correlation_id}
        if exc.code is ErrorCode.RATE_LIMITED or exc.retryable:
            # Rounded up: a caller that waits exactly this long must not be refused again.
            headers["Retry-After"] = str(max(1, math.ceil(exc.retry_after_s or 1)))
        return ErrorAnswer(exc.status, document, headers)
