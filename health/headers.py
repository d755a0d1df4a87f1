"""The headers that a CardanoForgeCluster gives for its health check: which may be sent.

A refusal names the header, never its value: values are credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
"""RFC 9110, 5.6.2."""
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,260}")
_OURS: Final = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "content-length", "expect"),
    )
)
"""Of one connection and not of the request (RFC 9110, 7.6.1), or of a body, which there is none of."""
_SHOWN: Final = 64


class HeaderError(ValueError):
    """A header that cannot be sent; the text names it."""


def checked(headers: Mapping[str, str]) -> dict[str, str]:
    """The same headers, all of which may be sent.  Raises HeaderError.

    Host may be among them: for an endpoint given by its number.
    """
    seen: set[str] = set()
    for name, value in headers.items():
        shown, key = _shown(name), name.lower()
        if not _TOKEN.fullmatch(name):
            raise HeaderError(f"the header {shown} is not sent: its name has characters that no header's may have")
        if key in _OURS:
            raise HeaderError(f"the header {shown} is not sent: it is not the request's to have")
        if key in seen:
            raise HeaderError(f"the header {shown} is given twice")
        if not _VALUE.fullmatch(value):
            raise HeaderError(f"the header {shown} is not sent: its value has control characters")
        if key == "host" and not _HOST.fullmatch(value):
            raise HeaderError(f"the header {shown} is not sent: its value is not a host, with or without a port")
        seen.add(key)
    return dict(headers)


def _shown(name: str) -> str:
    return ascii(name[:_SHOWN])
