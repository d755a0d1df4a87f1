"""TLS on the gateway's port, for who sets a certificate: its context, and connections that begin with a handshake.

Promises: TLS 1.2 at least; a client that does not finish its handshake is under the same limits as one that does not
finish a request; what is kept of a connection's bytes is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.rotating import Unusable, read_small
from ipc.acceptor import Acceptor

if TYPE_CHECKING:
    from gateway.http import Client

log = logging.getLogger("gateway")

CERT: Final = "GATEWAY_TLS_CERT_FILE"
KEY: Final = "GATEWAY_TLS_KEY_FILE"
MOST_BYTES: Final = 64 * 1024
"""Of either file; a long chain has some ten."""
MOST_RECORD: Final = 16 * 1024
"""Bytes of one record (RFC 8446, section 5.1), and that are read at a time."""
SHUTDOWN_S: Final = 1.0
"""How long who closes waits for the other side's farewell."""
COMPLAIN_EVERY_S: Final = 600.0

sslproto.SSLProtocol.max_size = MOST_RECORD  # asyncio makes a buffer of this size for each connection: else 256 KiB
_ANSWER_LOST: Final = "SSL connection is closed"
"""asyncio's warning, of each answer to a client that has left: one who asked ahead for hundreds would fill the log."""
logging.getLogger("asyncio").addFilter(lambda record: record.msg != _ANSWER_LOST)


def make_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Of a certificate with its chain, and its key.  Raises Unusable."""
    for variable, path in ((CERT, certificate), (KEY, key)):
        read_small(variable, path, MOST_BYTES)  # OpenSSL would wait for a pipe, and read a device for ever
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # nobody comes back often enough to resume
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        raise Unusable(KEY, "is encrypted; give it without a password") from None
    except ssl.SSLError as error:
        raise _unusable(error, certificate) from None
    except OSError as error:
        raise Unusable(
            f"{CERT} or {KEY}", f"cannot be read: {error.strerror}; check the secret and its mount"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


class _EncryptedError(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _EncryptedError


def _unusable(error: ssl.SSLError, certificate: Path) -> Unusable:
    """OpenSSL's reason as a variable and a remedy: its own text may have a part of the file."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return Unusable(KEY, f"is not the key of the certificate in {CERT}; give two that belong together")
    reason = f" ({error.reason})" if error.reason else ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except (ssl.SSLError, OSError):
        return Unusable(CERT, f"has no certificate that can be read{reason}; it must be in PEM")
    if error.reason in _WEAK:
        return Unusable(CERT, f"is too weak for this machine's OpenSSL{reason}; issue one with a stronger key")
    return Unusable(KEY, f"has no private key that can be read{reason}; it must be in PEM")


_WEAK: Final = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"})


class TlsAcceptor(Acceptor):
    """As `Acceptor`, with a handshake before a protocol is told of its connection."""

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], Client],
        context: Callable[[], ssl.SSLContext | None],
    ) -> None:
        """context: the one in use now; None: nobody is let in."""
        super().__init__(sock, factory)
        self._make_client = factory
        self._context = context
        self._complain_at = 0.0

    async def _serve(self, connection: socket.socket) -> None:
        loop, making, context = asyncio.get_running_loop(), asyncio.current_task(), self._context()
        if context is None:
            connection.close()
            return
        client = self._make_client()
        assert making is not None
        client.shakes_hands(making, _peername(connection))
        try:
            await loop.connect_accepted_socket(lambda: client, connection, ssl=context, ssl_shutdown_timeout=SHUTDOWN_S)
        except asyncio.CancelledError as error:  # cut: the transport, if it is one yet, closes the socket
            _let_go(error)
        except OSError as error:  # whatever a stranger takes for a handshake
            self._failed(error, loop.time())
            _let_go(error)
        finally:
            client.has_shaken_hands()

    def _failed(self, error: OSError, now: float) -> None:
        """The one mistake that operators make is worth a line, now and then."""
        if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST" and now >= self._complain_at:
            self._complain_at = now + COMPLAIN_EVERY_S
            log.warning(
                "somebody spoke plain HTTP to the port, which speaks TLS (GATEWAY_TLS_CERT_FILE): probes and scrapers "
                "need `scheme: HTTPS`",
                extra={"event": "plain_http"},
            )


def _peername(connection: socket.socket) -> object:
    try:
        return connection.getpeername()
    except OSError:  # it has gone already
        return None


def _let_go(error: BaseException) -> None:
    """asyncio's frames hold the error that holds them, and with it buffers and keys, until the collector comes by."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__context__
