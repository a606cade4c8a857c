"""SessionErrorHandler: an error as the problem document of the wire contract (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from shared.errors import AppError, ErrorCode

TYPE_BASE = "urn:parley:error:"
"""Error types are named, not located: a name stays true wherever Parley is deployed."""


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
    errors: list[FieldProblem] | None = None


def problem_of(exc: AppError, correlation_id: str) -> dict[str, Any]:
    """`{"type", "title", "status", "detail", "code", "correlation_id", "errors"?}`; holds only what is safe to show."""
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
    return document
