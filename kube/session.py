"""One session with one API server: how to reach it, and a request that always ends in time.

Built on `kubernetes.aio`'s configuration, authentication and connections; bodies stay plain JSON objects, since a
compare-and-swap must send back exactly what it read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from kube.errors import ApiFailure, Failure, SessionConfigError, from_status

Json = dict[str, Any]

CONNECT_S: Final = 1.5
WATCH_GRACE_S: Final = 5.0
"""A server that does not close a watch in time is given this much longer."""
MOST_LINE: Final = 2**21
"""Bytes of one watch event; the read buffer that kubernetes.aio sets up."""
_METHOD: Final = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH"}


class ApiSession:
    """`async with ApiSession(...)`: connections are made when needed and closed at the end."""

    def __init__(self, kubeconfig: Path | None, *, user_agent: str) -> None:
        self._kubeconfig = kubeconfig
        self._user_agent = user_agent
        self._client: Any = None
        self.requests_total: Counter[str] = Counter()
        """By verb: get, watch, create, update, patch."""
        self.failures_total = 0

    async def __aenter__(self) -> Self:
        """Raises SessionConfigError."""
        settings = Configuration()
        try:
            if self._kubeconfig is None:
                kube_config.load_incluster_config(client_configuration=settings)
            else:
                await kube_config.load_kube_config(
                    config_file=str(self._kubeconfig), client_configuration=settings, persist_config=False
                )
            self._client = ApiClient(settings)
        except kube_config.ConfigException as error:
            where = f"KUBECONFIG {self._kubeconfig}" if self._kubeconfig is not None else "the pod's service account"
            raise SessionConfigError(f"{where}: {error}") from None
        except (OSError, ssl.SSLError, yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
            where = str(self._kubeconfig or "the pod's service account")
            raise SessionConfigError(f"{where} cannot be used ({type(error).__name__})") from None
        self._client.user_agent = self._user_agent
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def request(
        self,
        verb: str,
        path: str,
        *,
        timeout_s: float,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request; the JSON object answered.  Ends within `timeout_s` seconds.  Raises ApiFailure."""
        self.requests_total[verb] += 1
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(_METHOD[verb], path, [], body, content_type, timeout_s)
                raw = await response.read()
                return _object(response.status, response.headers, raw)
        except ApiFailure:
            self.failures_total += 1
            raise
        except (TimeoutError, aiohttp.ClientError, OSError, ssl.SSLError) as error:
            await self._forget_connections()
            self.failures_total += 1
            raise _transport_failure(error, timeout_s) from None

    async def watch(self, path: str, query: list[tuple[str, str]], *, timeout_s: int) -> AsyncIterator[Json]:
        """The events of one watch, until the server closes it after `timeout_s` seconds.  Raises ApiFailure."""
        self.requests_total["watch"] += 1
        query = [*query, ("watch", "true"), ("timeoutSeconds", str(timeout_s))]
        try:
            async with asyncio.timeout(timeout_s + WATCH_GRACE_S):
                async with asyncio.timeout(CONNECT_S * 2):
                    response = await self._send("GET", path, query, None, "application/json", timeout_s + 60)
                if response.status != 200:
                    _object(response.status, response.headers, await response.read())
                with contextlib.closing(response.response):
                    while line := await response.response.content.readline():
                        yield _event(line)
        except ApiFailure:
            self.failures_total += 1
            raise
        except (TimeoutError, aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            self.failures_total += 1
            raise _transport_failure(error, timeout_s) from None

    async def _send(
        self, method: str, path: str, query: list[tuple[str, str]], body: Json | None, kind: str, timeout_s: float
    ) -> Any:
        try:
            method, url, headers, _, _ = await self._client.param_serialize(
                method,
                path,
                query_params=query,
                header_params={"Accept": "application/json", "Content-Type": kind},
                auth_settings=["BearerToken"],
            )
        except kube_config.ConfigException:
            raise ApiFailure(Failure.UNAUTHORIZED, "the service account's token cannot be read") from None
        return await self._client.call_api(
            method,
            url,
            headers,
            body,
            _request_timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S),
        )

    async def _forget_connections(self) -> None:
        """After a failure no pooled connection is trusted: a dead one would swallow the next attempts too."""
        pool, self._client.rest_client.pool_manager = self._client.rest_client.pool_manager, None
        if pool is not None:
            await pool.close()


def _object(status: int, headers: Any, raw: bytes) -> Json:
    """The JSON object of an answer.  Raises ApiFailure for every status but 200, 201 and 202."""
    try:
        parsed = json.loads(raw)
    except ValueError:
        parsed = None
    if status not in (200, 201, 202):
        reason = parsed.get("reason") if isinstance(parsed, dict) else None
        raise from_status(status, reason if isinstance(reason, str) else "", headers.get("Retry-After"))
    if not isinstance(parsed, dict):
        raise ApiFailure(Failure.MALFORMED, "the API server's answer is not a JSON object")
    return parsed


def _event(line: bytes) -> Json:
    try:
        parsed = json.loads(line)
    except ValueError:
        raise ApiFailure(Failure.MALFORMED, "a watch event is not JSON") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("object"), dict):
        raise ApiFailure(Failure.MALFORMED, "a watch event without an object")
    if parsed.get("type") == "ERROR":
        status = parsed["object"]
        code, reason = status.get("code"), status.get("reason")
        raise from_status(code if isinstance(code, int) else 500, reason if isinstance(reason, str) else "", None)
    return parsed


def _transport_failure(error: BaseException, timeout_s: float) -> ApiFailure:
    if isinstance(error, TimeoutError):
        return ApiFailure(Failure.TIMEOUT, f"no answer from the API server within {timeout_s:g} s")
    if isinstance(error, (aiohttp.ClientConnectorError, ConnectionError, ssl.SSLError, aiohttp.ClientOSError)):
        detail = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return ApiFailure(Failure.UNREACHABLE, f"the API server cannot be reached: {detail}")
    return ApiFailure(Failure.UNREACHABLE, f"the connection to the API server failed ({type(error).__name__})")
