"""Every error the domain raises, named by who must act.

    AppError(code, safe_message, retryable=False)
      InvalidInput        the caller fixes the request                     400 / 413 / 422
        InvalidState      ... or changes the session's state first         400
      NotAuthenticated    the caller signs in                              401
      NotFound            it does not exist, or not for this caller        404
      Conflict            a race was lost                                  409
      Gone                it is too late                                   410
      ToolFailed          the model reads it and adapts; not retried by us 502 / 504
        ToolRefused       our own policy said no
      ModelFailed         the turn fails with this code; the session stays usable
      BudgetExceeded      a limit was reached; the turn or request ends    429 / 413
      Transient           infrastructure; the same call may work later     503 / 429 / 502 / 504
      ConfigError         the operator fixes a setting; raised at start only

Invariant: `safe_message` may be read by a user or by a model, so it never holds SQL, a stack trace or a
secret; details for operators go to the log through `__cause__`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """The 24 codes of the wire contract."""

    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    SESSION_ALREADY_EXISTS = "SESSION_ALREADY_EXISTS"
    INVALID_STATE = "INVALID_STATE"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    MESSAGE_TOO_LONG = "MESSAGE_TOO_LONG"
    TOOL_NOT_FOUND = "TOOL_NOT_FOUND"
    TOOL_EXECUTION_FAILED = "TOOL_EXECUTION_FAILED"
    TOOL_TIMEOUT = "TOOL_TIMEOUT"
    INVALID_TOOL_ARGS = "INVALID_TOOL_ARGS"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    APPROVAL_TIMEOUT = "APPROVAL_TIMEOUT"
    APPROVAL_REJECTED = "APPROVAL_REJECTED"
    LLM_ERROR = "LLM_ERROR"
    LLM_TIMEOUT = "LLM_TIMEOUT"
    RATE_LIMITED = "RATE_LIMITED"
    TOKEN_LIMIT = "TOKEN_LIMIT"  # noqa: S105 - an error code, not a password
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DATABASE_ERROR = "DATABASE_ERROR"
    CACHE_ERROR = "CACHE_ERROR"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    CONFLICT = "CONFLICT"


HTTP_STATUS: Mapping[ErrorCode, int] = {
    ErrorCode.SESSION_NOT_FOUND: 404,
    ErrorCode.SESSION_ALREADY_EXISTS: 409,
    ErrorCode.INVALID_STATE: 400,
    ErrorCode.SESSION_EXPIRED: 410,
    ErrorCode.MESSAGE_NOT_FOUND: 404,
    ErrorCode.INVALID_MESSAGE: 400,
    ErrorCode.MESSAGE_TOO_LONG: 413,
    ErrorCode.TOOL_NOT_FOUND: 404,
    ErrorCode.TOOL_EXECUTION_FAILED: 502,
    ErrorCode.TOOL_TIMEOUT: 504,
    ErrorCode.INVALID_TOOL_ARGS: 422,
    ErrorCode.APPROVAL_REQUIRED: 202,
    ErrorCode.APPROVAL_TIMEOUT: 410,
    ErrorCode.APPROVAL_REJECTED: 409,
    ErrorCode.LLM_ERROR: 502,
    ErrorCode.LLM_TIMEOUT: 504,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.TOKEN_LIMIT: 413,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.DATABASE_ERROR: 503,
    ErrorCode.CACHE_ERROR: 503,
    ErrorCode.VALIDATION_ERROR: 422,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.CONFLICT: 409,
}


class AppError(Exception):
    """Base of all domain errors.

    retryable: the same call may succeed later; retry_after_s: not before that many seconds.
    errors: per-field problems, `{"field": "dotted.path", "message": "..."}`, safe to show.
    """

    retryable = False

    def __init__(
        self,
        code: ErrorCode,
        safe_message: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {safe_message}")
        self.code = code
        self.safe_message = safe_message
        self.errors = tuple(dict(error) for error in errors)
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status of the wire contract."""
        return HTTP_STATUS[self.code]

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default protocol, and errors cross process borders.
        return _rebuild, (type(self), self.code, self.safe_message, self.errors, self.retry_after_s)


def _rebuild(
    kind: type[AppError],
    code: ErrorCode,
    message: str,
    errors: Sequence[Mapping[str, str]],
    retry_after_s: float | None,
) -> AppError:
    return kind(code, message, errors=errors, retry_after_s=retry_after_s)


class InvalidInput(AppError):
    """The request is invalid; repeating it would fail again."""


class InvalidState(InvalidInput):
    """The session or turn is not in a state that allows this."""

    def __init__(self, safe_message: str, **kwargs: Any) -> None:
        super().__init__(ErrorCode.INVALID_STATE, safe_message, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.safe_message,)


class NotAuthenticated(AppError):
    """The request has no trusted caller identity."""

    def __init__(self, safe_message: str = "Sign in first.") -> None:
        super().__init__(ErrorCode.UNAUTHENTICATED, safe_message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.safe_message,)


class NotFound(AppError):
    """It does not exist, or the caller is not allowed to know that it does."""


class Conflict(AppError):
    """A race was lost: someone else was first, or an idempotency key was reused with another body."""


class Gone(AppError):
    """It is too late: the session expired, the approval timed out."""


class ToolFailed(AppError):
    """A tool could not do its work. The model reads the message and adapts."""

    def __init__(
        self,
        safe_message: str,
        *,
        code: ErrorCode = ErrorCode.TOOL_EXECUTION_FAILED,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, safe_message, retry_after_s=retry_after_s)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_tool_failed, (type(self), self.safe_message, self.code, self.retry_after_s)


def _rebuild_tool_failed(
    kind: type[ToolFailed], message: str, code: ErrorCode, retry_after_s: float | None
) -> ToolFailed:
    return kind(message, code=code, retry_after_s=retry_after_s)


class ToolRefused(ToolFailed):
    """Our own policy refused the call (allow-list, limits)."""


class ModelFailed(AppError):
    """The model endpoint refused permanently; a retry would not help."""


class BudgetExceeded(AppError):
    """A limit of tokens or requests was reached."""


class Transient(AppError):
    """Infrastructure: worth another try after `retry_after_s` or a back-off."""

    retryable = True


class ConfigError(Exception):
    """A setting is missing or malformed; the message is one line naming it and the fix."""


def no_such_session() -> NotFound:
    """The same error for a missing session and for someone else's, so that a caller cannot tell them apart."""
    return NotFound(ErrorCode.SESSION_NOT_FOUND, "No such session.")


class CacheUnavailable(Exception):
    """The cache does not answer. Not an `AppError`: callers go on without the cache, and users see nothing of it."""
