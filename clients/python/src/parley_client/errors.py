"""What the client raises, named by what the caller can do about it.

ParleyError
  ApiError             the service refused; has `code`, `status`, `detail`, `correlation_id`
    InvalidRequest     change the request                            400, 413, 422
    Unauthenticated    sign in                                       401
    NotAllowed         the platform in front of the service refused  403
    NotFound           it does not exist, or not for you             404
    Conflict           somebody else was first                       409
    TooLate            expired, or decided by its timeout            410
    RateLimited        a limit is reached; see `retry_after_s`       429
    Unavailable        the same request may succeed later            5xx
  ConnectionLost       no answer came, also after the retries; the httpx error is its cause
  TurnStillOpen        `wait_for_turn` waited for as long as it was told to
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ParleyError(Exception):
    """Base of everything that this package raises on purpose."""


class ApiError(ParleyError):
    """The service answered with a problem document (RFC 9457), or something before it with a status of its own.

    code: one of the service's codes, such as `SESSION_NOT_FOUND`; `HTTP` when the answer was not the service's.
    detail: a sentence for people. correlation_id: names the request in the service's logs.
    errors: `{"field": "dotted.path", "message": "..."}` for each field that was refused.
    retry_after_s: not before that many seconds; None when the service did not say.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        correlation_id: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        fields = [f"{error.get('field')}: {error.get('message')}" for error in errors]
        super().__init__(" ".join([f"{code} ({status}): {detail}", *fields]))
        self.status = status
        self.code = code
        self.detail = detail
        self.correlation_id = correlation_id
        self.errors = tuple(dict(error) for error in errors)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default protocol, and errors cross process borders.
        about = (self.status, self.code, self.detail, self.correlation_id, self.errors, self.retry_after_s)
        return _rebuilt, (type(self), *about)


class InvalidRequest(ApiError):
    """The request is invalid, or too large; the same one would be refused again."""


class Unauthenticated(ApiError):
    """The service does not know who calls."""


class NotAllowed(ApiError):
    """Something in front of the service refused. The service itself answers NotFound for what a caller may not see."""


class NotFound(ApiError):
    """It does not exist, or the caller may not know that it does."""


class Conflict(ApiError):
    """A race was lost: a turn runs, a stale `if_match`, a decision already made, a key used with another body."""


class TooLate(ApiError):
    """The session has expired, or the approval has timed out."""


class RateLimited(ApiError):
    """Too many requests, or the day's budget is used up."""


class Unavailable(ApiError):
    """The service, or something that it needs, is away."""


class ConnectionLost(ParleyError):
    """The service could not be reached, or the connection broke before its answer."""


class TurnStillOpen(ParleyError):
    """The turn goes on; only the waiting has ended."""

    def __init__(self, turn_id: str, status: str) -> None:
        super().__init__(f"turn {turn_id} is {status}")
        self.turn_id = turn_id
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.turn_id, self.status)


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    410: TooLate,
    413: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}


def error_class(status: int) -> type[ApiError]:
    """The class for an HTTP status."""
    return _BY_STATUS.get(status, Unavailable if status >= 500 else ApiError)


def _rebuilt(
    kind: type[ApiError],
    status: int,
    code: str,
    detail: str,
    correlation_id: str | None,
    errors: Sequence[Mapping[str, str]],
    retry_after_s: float | None,
) -> ApiError:
    return kind(status, code, detail, correlation_id, errors=errors, retry_after_s=retry_after_s)
