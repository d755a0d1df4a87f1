"""What can go wrong with one request, in one vocabulary.

The text of an `ApiFailure` never holds a token, a header or a body: it may be logged.
"""

from __future__ import annotations

import asyncio
import enum
import json
import ssl
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from sandbox.places import Unreachable


class Failure(enum.StrEnum):
    UNREACHABLE = "unreachable"
    """No connection, or it broke: a write may have taken effect all the same."""
    TIMEOUT = "timeout"
    """No answer in time: a write may have taken effect all the same."""
    SERVER_ERROR = "server-error"
    """5xx: a write may have taken effect all the same (504 says so)."""
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    """The token is missing, unreadable or refused."""
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


ANSWERS: Final = frozenset({Failure.NOT_FOUND, Failure.CONFLICT, Failure.ALREADY_EXISTS, Failure.GONE})
"""What a healthy server says about the state of things; not counted as its failure."""

_BROKEN_TRUST: Final = frozenset({Failure.UNREACHABLE, Failure.TIMEOUT})


class ApiFailure(Exception):  # noqa: N818  # an outcome, named as such
    """One request did not succeed."""

    def __init__(
        self, kind: Failure, text: str, *, retry_after_s: float | None = None, credentials_suspect: bool = False
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.credentials_suspect = credentials_suspect or kind is Failure.UNAUTHORIZED
        """Whether the token, certificate or trust in use may have been rotated since they were read."""
        self.retry_after_s = retry_after_s
        """Seconds the server asked us to wait."""

    @property
    def connection_suspect(self) -> bool:
        """Whether other connections to the same server may be dead too."""
        return self.kind in _BROKEN_TRUST


class SessionConfigError(Unreachable):
    """How to reach the API server cannot be found out; the text names the file or field and the remedy."""


TRANSPORT_ERRORS: Final = (
    TimeoutError,
    aiohttp.ClientError,
    HttpProcessingError,
    asyncio.IncompleteReadError,
    ssl.SSLError,
    OSError,
    ValueError,
    RecursionError,
)
"""What kubernetes.aio, aiohttp, asyncio, ssl and json raise for one request: what `classify` knows.

ValueError: undecodable JSON or header, and aiohttp's line limit before 3.13; RecursionError: JSON nested too deep.
"""

_BY_STATUS: Final = {
    401: Failure.UNAUTHORIZED,
    403: Failure.FORBIDDEN,
    404: Failure.NOT_FOUND,
    408: Failure.TIMEOUT,
    410: Failure.GONE,
    429: Failure.THROTTLED,
}


def classify(error: BaseException, timeout_s: float) -> ApiFailure:
    """The failure that one of TRANSPORT_ERRORS means; `timeout_s`: what the request was given, for the text."""
    match error:
        case ApiFailure():
            return error
        case TimeoutError():
            return ApiFailure(Failure.TIMEOUT, f"no answer from the API server within {timeout_s:g} s")
        case aiohttp.ClientConnectorCertificateError():
            return _untrusted(error.certificate_error)
        case ssl.SSLError() | aiohttp.ClientSSLError():
            return _untrusted(error)
        case aiohttp.ClientResponseError() | HttpProcessingError() | json.JSONDecodeError() | RecursionError():
            return ApiFailure(Failure.MALFORMED, f"the API server's answer cannot be read ({type(error).__name__})")
        case OSError():
            detail = error.strerror if isinstance(error.strerror, str) else type(error).__name__
            return ApiFailure(Failure.UNREACHABLE, f"the API server cannot be reached: {detail}")
        case aiohttp.ClientError() | asyncio.IncompleteReadError():
            return ApiFailure(Failure.UNREACHABLE, f"the connection to the API server failed ({type(error).__name__})")
        case _:
            return ApiFailure(Failure.MALFORMED, f"the API server's answer cannot be read ({type(error).__name__})")


def from_status(status: int, reason: str, retry_after: str | None) -> ApiFailure:
    """The failure that an HTTP status (and the Status object's reason) means."""
    if status == 409:
        kind = Failure.ALREADY_EXISTS if reason == "AlreadyExists" else Failure.CONFLICT
    elif status >= 500:
        kind = Failure.SERVER_ERROR
    elif status >= 400:
        kind = _BY_STATUS.get(status, Failure.INVALID)
    else:
        kind = Failure.MALFORMED
    text = f"the API server answered {status}"
    if reason.isascii() and reason.isalnum() and len(reason) <= 40:
        text += f" {reason}"
    return ApiFailure(kind, text, retry_after_s=_seconds(retry_after))


def _untrusted(error: BaseException) -> ApiFailure:
    why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
    text = f"no TLS connection with the API server: {why}"
    return ApiFailure(Failure.UNREACHABLE, text, credentials_suspect=True)


def _seconds(text: str | None) -> float | None:
    """Retry-After in its form as seconds (RFC 9110, 10.2.3); the form as a date is not used by Kubernetes."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return float(text)
