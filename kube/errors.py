"""What can go wrong with one request, in one vocabulary.

The text of an `ApiFailure` never holds a token, a header or a body: it may be logged.
"""

from __future__ import annotations

import enum


class Failure(enum.StrEnum):
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    """No answer in time: a write may have taken effect all the same."""
    SERVER_ERROR = "server-error"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    """Somebody wrote since we read."""
    ALREADY_EXISTS = "already-exists"
    INVALID = "invalid"
    GONE = "gone"
    """The resource version is too old to watch from."""
    MALFORMED = "malformed"
    """An answer that is not what the API promises."""


class ApiFailure(Exception):  # noqa: N818  # an outcome, named as such
    """One request did not succeed."""

    def __init__(self, kind: Failure, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.retry_after_s = retry_after_s
        """Seconds the server asked us to wait."""


class SessionConfigError(Exception):
    """How to reach the API server cannot be found out; the text names the file or field and the remedy."""


_BY_STATUS = {
    400: Failure.INVALID,
    401: Failure.UNAUTHORIZED,
    403: Failure.FORBIDDEN,
    404: Failure.NOT_FOUND,
    410: Failure.GONE,
    422: Failure.INVALID,
    429: Failure.THROTTLED,
}


def from_status(status: int, reason: str, retry_after: str | None) -> ApiFailure:
    """The failure that an HTTP status (and the Status object's reason) means."""
    if status == 409:
        kind = Failure.ALREADY_EXISTS if reason == "AlreadyExists" else Failure.CONFLICT
    elif status >= 500:
        kind = Failure.SERVER_ERROR
    else:
        kind = _BY_STATUS.get(status, Failure.MALFORMED)
    text = f"the API server answered {status}"
    if reason.isalnum():
        text += f" {reason}"
    return ApiFailure(kind, text, retry_after_s=_seconds(retry_after))


def _seconds(text: str | None) -> float | None:
    """Retry-After in its form as seconds (RFC 9110, 10.2.3); the form as a date is not used by Kubernetes."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return float(text)
