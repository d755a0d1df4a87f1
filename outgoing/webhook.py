"""One notice to NOTIFY_URL: a signed POST, and what came of it within the timeout, whatever the other side does.

Signed by Standard Webhooks 1.0.0: `v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`.  The key is read anew
for each attempt, so a rotated file needs no restart; while a key is to be had and cannot be read nothing is sent, for
an unsigned notice looks like somebody else's.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import hmac
import os
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from kernel.small_file import read_small
from outgoing.client import Answer, Broken, Client, ClientError, Failed, Where, address, in_words
from policy import outbox
from policy.cloud_event import CONTENT_TYPE
from policy.outbox import Letter, Refused, Result, Sent

TIMEOUT_S: Final = 10.0
LEAST_KEY: Final = 16
MOST_KEY: Final = 1024
"""Bytes of the file."""
PREFIX: Final = "whsec_"
"""Of a key in Base64, as Standard Webhooks writes them."""
_MAY_PASS: Final = frozenset({401, 403, 404, 407, 408, 421, 425, 429})
"""4xx that speak of the way there or of the receiver's own state, not of the notice: a key that is being rotated, a
route that a roll-out has taken away for a moment, a proxy.  410 is a receiver that wants no more notices."""
_REMEDY: Final = "NOTIFY_URL or the environment's proxy was changed after the start"


class NoKey(Exception):  # noqa: N818  # a state of the world, told in words
    """NOTIFY_SECRET_FILE has no key; the text says why, and never what is in it."""


class Webhook:
    """One receiver."""

    def __init__(self, url: str, key_file: Path | None, open_ports: Collection[int] | None = None) -> None:
        """open_ports: TCP ports that this process may connect to; None: any."""
        self._url = url
        self._key_file = key_file
        self._client = Client(open_ports, _REMEDY)

    def prepare(self) -> None:
        """Load what takes a tenth of a second, before anybody waits for the loop."""
        self._client.load_trust()

    async def deliver(self, letter: Letter, wall_s: float, timeout_s: float = TIMEOUT_S) -> Result:
        """What comes of one attempt, at most `timeout_s` seconds later.  wall_s: now, in Unix seconds."""
        where = Where()
        try:
            headers = self._headers(letter, wall_s)
            async with asyncio.timeout(timeout_s):
                answer = await self._post(letter, headers, where)
        except TimeoutError:
            return outbox.Failed(f"{where}: no answer within {timeout_s:g} s")
        except NoKey as error:
            return outbox.Failed(f"NOTIFY_SECRET_FILE {error}")
        except Failed as error:
            return outbox.Failed(f"{where}: {error}")
        except Broken:
            return outbox.Failed(f"{where}: the connection broke before the answer ended")
        except (ClientError, OSError, ValueError) as error:
            return outbox.Failed(f"{where}: {in_words(error)}")
        return _judged(answer, f"{where}: answered {answer.status}", wall_s)

    def _headers(self, letter: Letter, wall_s: float) -> dict[str, str]:
        """Raises NoKey."""
        headers = {"Content-Type": CONTENT_TYPE, "webhook-id": letter.id, "webhook-timestamp": str(int(wall_s))}
        if self._key_file is not None:
            key = read_key(self._key_file)
            headers["webhook-signature"] = signature(key, letter.id, int(wall_s), letter.body.encode())
        return headers

    async def _post(self, letter: Letter, headers: dict[str, str], where: Where) -> Answer:
        where.url = url = address(self._url)
        async with self._client.session() as session:
            return await self._client.ask(session, "POST", url, headers, letter.body.encode())


def _judged(answer: Answer, said: str, wall_s: float) -> Result:
    if 200 <= answer.status < 300:
        return Sent()
    if answer.status in _MAY_PASS or answer.status >= 500:
        return outbox.Failed(said, _asked_to_wait(answer.headers.get("Retry-After", ""), wall_s))
    if 300 <= answer.status < 400:
        return Refused(f"{said}, a redirect, which is not followed: give NOTIFY_URL the address itself")
    return Refused(said)


def _asked_to_wait(text: str, wall_s: float) -> float:
    """Seconds of a Retry-After, which has them or an instant (RFC 9110, 10.2.3); 0: none that can be read."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    instant = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return max((instant - datetime.fromtimestamp(wall_s, UTC)).total_seconds(), 0.0)


def signature(key: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """Of Standard Webhooks."""
    signed = f"{identity}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")


def read_key(path: Path) -> bytes:
    """The key in a file: its bytes without newlines at the end, or what Base64 behind `whsec_` stands for.

    Raises NoKey.
    """
    try:
        content = read_small(path, MOST_KEY)
    except OSError as error:
        raise NoKey(f"cannot be read: {os.strerror(error.errno or errno.EIO)}") from None
    if len(content) > MOST_KEY:
        raise NoKey(f"has more than {MOST_KEY} bytes: that is no key for signatures")
    key = content.rstrip(b"\r\n")
    if key.startswith(PREFIX.encode()):
        try:
            key = base64.b64decode(key.removeprefix(PREFIX.encode()), validate=True)
        except binascii.Error:
            raise NoKey(f"has no Base64 behind {PREFIX}") from None
    if len(key) < LEAST_KEY:
        raise NoKey(f"has a key of less than {LEAST_KEY} bytes: make one of 32 random ones")
    return key
