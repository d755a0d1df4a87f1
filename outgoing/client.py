"""HTTP or HTTPS to somebody outside: one request on a connection of its own, sent once, followed nowhere.

aiohttp reads ~/.netrc in a thread, keeps cookies and sends a broken request again unless it is told not to: it is.
Messages are shown to everybody: they name host and status, never a path, a query, a user or a header's value.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from outgoing.reach import with_scheme
from policy.no_proxy import excepted

MOST_BODY: Final = 64 * 1024
"""Bytes that are read of an answer; what comes after them is nobody's concern."""
CLOSE_S: Final = 0.2
AGENT: Final = "cardano-forge-manager"
_MOST_SHOWN: Final = 120


@contextlib.contextmanager
def _no_system_trust() -> Iterator[None]:
    """aiohttp makes a context of the system's trust at import (0.1 s, 2 MiB), which nothing here uses."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


with _no_system_trust():
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

ClientError = aiohttp.ClientError


class Failed(Exception):  # noqa: N818  # an outcome, told in words
    """There is no answer, or none of use; the text may be shown to everybody."""


class Broken(Exception):  # noqa: N818  # not an OSError: aiohttp would send the request again
    """The connection broke after the request was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is looked at of one."""

    status: int
    headers: Mapping[str, str]
    """By any spelling of the name."""


class Client:
    """Asks one thing at a time."""

    def __init__(self, open_ports: Collection[int] | None, remedy: str) -> None:
        """open_ports: TCP ports that this process may connect to; None: any.  remedy: what opens another one."""
        self._open_ports = open_ports
        self._remedy = remedy
        self._names = _Names()

    async def ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        content: bytes | None = None,
    ) -> Answer:
        """One answer, as much of its body read as is read of any.

        Raises Failed, Broken, aiohttp.ClientError, OSError, ValueError; `in_words` has words for the last three.
        """
        proxy, for_proxy = _proxy_for(url)
        self._refuse_closed_port(proxy or url)
        if url.scheme == "http":  # the request itself goes to the proxy, not one for a tunnel
            headers = {**headers, **for_proxy}
        async with session.request(
            method, url, headers=headers, data=content, proxy=proxy, proxy_headers=for_proxy, allow_redirects=False
        ) as response:
            left = MOST_BODY
            while left > 0 and (data := await response.content.read(left)):
                left -= len(data)
            response.close()  # also where there is more to come
            return Answer(response.status, response.headers)

    def load_trust(self) -> None:
        """Now and not with the first connection by TLS: it holds the loop up for a tenth of a second."""
        assert isinstance(self._trust, ssl.SSLContext)

    def _refuse_closed_port(self, url: URL) -> None:
        if self._open_ports is not None and url.port not in self._open_ports:
            raise Failed(f"port {url.port} is not open to the prober: {self._remedy}")

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Connections of its own, cut at its end; waits for no peer."""
        connector = aiohttp.TCPConnector(
            resolver=self._names, use_dns_cache=False, force_close=True, ssl=self._trust, limit=1
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            middlewares=(_send_once,),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            headers={"Accept": "*/*", "User-Agent": AGENT},
            skip_auto_headers=("Accept-Encoding",),
        )
        try:
            yield session
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await session.close()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """The system's (SSL_CERT_FILE and SSL_CERT_DIR, where they are set)."""
        return ssl.create_default_context()


class Where:
    """Who is asked, as it may be shown."""

    url: URL | None = None
    """Set as soon as it is known."""

    def __str__(self) -> str:
        if self.url is None or not self.url.raw_host:
            return "the endpoint"
        host = self.url.raw_host[:_MOST_SHOWN]
        host = f"[{host}]" if ":" in host else host
        return host if self.url.is_default_port() else f"{host}:{self.url.port}"


class _Names(AbstractResolver):
    """Looks names up in a thread of its own, one at a time.

    Not in asyncio's: a resolver that hangs would fill them, and hold up the looks at the node and the end of the
    process.
    """

    def __init__(self) -> None:
        self._busy: asyncio.Future[list[ResolveResult]] | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError."""
        while self._busy is not None:  # of an earlier request, which did not wait for its end
            await asyncio.wait((self._busy,))
        loop = asyncio.get_running_loop()
        future = self._busy = loop.create_future()
        future.add_done_callback(self._free)

        def tell(found: list[ResolveResult] | OSError) -> None:
            if isinstance(found, OSError):
                future.set_exception(found)
            else:
                future.set_result(found)

        def look_up() -> None:
            found: list[ResolveResult] | OSError
            try:
                found = _looked_up(host, port, family)
            except OSError as error:
                found = error
            except UnicodeError:  # IDNA: a label is empty or too long
                found = socket.gaierror(socket.EAI_NONAME, "not a host name")
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, found)

        try:
            threading.Thread(target=look_up, name="names", daemon=True).start()
        except RuntimeError:  # the sandbox gives no threads where no address was a name
            where = "where HEALTH_CHECK_ENDPOINT or NOTIFY_URL has one, or with cluster management"
            future.set_exception(socket.gaierror(socket.EAI_SYSTEM, f"names are looked up only {where}"))
        return await asyncio.shield(future)

    def _free(self, future: asyncio.Future[list[ResolveResult]]) -> None:
        self._busy = None
        future.exception()  # perhaps nobody waits any more

    async def close(self) -> None:
        """Nothing to close."""


def _looked_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(
            hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=protocol, flags=numeric
        )
        for kind, _, protocol, _, address in found
    ]


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends a GET again by itself when its connection breaks: what broke is a failure here."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # never sent; not repeated either, and names its reason
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise Broken from None


def address(text: str) -> URL:
    """Raises Failed, which does not show it."""
    try:
        url = URL(text)
    except ValueError:
        raise Failed("its address is not a URL") from None
    if url.scheme not in ("http", "https") or not url.raw_host or not url.port:
        raise Failed("its address must be http:// or https:// with a host")
    return url


def user_as_header(name: str, url: URL) -> dict[str, str]:
    if url.user is None:
        return {}
    pair = f"{url.user}:{url.password or ''}".encode()
    return {name: "Basic " + base64.b64encode(pair).decode("ascii")}


def _proxy_for(url: URL) -> tuple[URL | None, dict[str, str]]:
    """The proxy that the environment names for this address (HTTPS_PROXY, HTTP_PROXY, NO_PROXY); headers for it alone.

    Raises Failed.
    """
    proxies = getproxies()
    named = proxies.get(url.scheme)
    if not named or proxy_bypass(f"{url.host}:{url.port}") or excepted(url.host or "", proxies.get("no", "")):
        return None, {}
    try:
        proxy = URL(with_scheme(named))
    except ValueError:
        raise Failed("the address of the environment's proxy is not a URL") from None
    if proxy.scheme not in ("http", "https") or not proxy.raw_host or not proxy.port:
        raise Failed("the environment's proxy must be http:// or https:// with a host")
    return proxy.with_user(None), user_as_header("Proxy-Authorization", proxy)


def in_words(error: Exception) -> str:
    """Why there was no answer, without anything of what was sent or answered."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {error.status}"
        case aiohttp.ClientConnectorDNSError():
            return f"its name cannot be looked up: {_reason(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            return f"no TLS connection: {_reason(error.certificate_error)}"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy cannot be reached: {_reason(error.os_error)}"
        case aiohttp.ClientConnectorSSLError():
            return f"no TLS connection: {_reason(error.os_error)}"
        case ssl.SSLError():
            return f"no TLS connection: {_reason(error)}"
        case aiohttp.ClientConnectorError():
            return f"no connection: {_reason(error.os_error)}"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientResponseError():
            return "what it answers is not HTTP"
        case OSError():
            return f"no connection: {_reason(error)}"
        case _:
            return f"cannot be asked ({type(error).__name__})"


def _reason(error: BaseException) -> str:
    """The system's or the TLS library's word for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return str(error.reason or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
