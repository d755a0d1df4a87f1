"""Connections to one API server: `kubernetes.aio`'s settings, credentials and REST client, without its models."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client.rest import RESTClientObject


class Connections:
    """What requests go through.  They are opened when needed."""

    def __init__(self, settings: Any) -> None:
        """`settings`: the library's Configuration.  Raises OSError, ssl.SSLError or ValueError: its certificates."""
        self._settings = settings
        self._rest = RESTClientObject(settings)
        self.user_agent = ""

    def anew(self) -> Connections:
        """The same settings and trust, connections of its own."""
        other = copy.copy(self)
        other._rest = copy.copy(self._rest)
        other._rest.pool_manager = None
        return other

    async def headers(self, content_type: str) -> dict[str, str]:
        """The headers of a request, the token (renewed, if it is time) among them.

        Raises what the library raises for a token that cannot be read: ConfigException, OSError, ValueError.
        """
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": self.user_agent}
        token = (await self._settings.auth_settings()).get("BearerToken")
        if token and token["value"]:
            headers[token["key"]] = token["value"]
        return headers

    async def send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: dict[str, str],
        body: Any,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """The response, its body not read yet; `body` goes as JSON.  Raises one of `kube.errors.TRANSPORT_ERRORS`."""
        url = self._settings.host + path
        if query:
            url += "?" + urlencode(query, quote_via=quote)
        answered = await self._rest.request(method, url, headers=headers, body=body, _request_timeout=limits)
        response: aiohttp.ClientResponse = answered.response
        return response

    async def close(self) -> None:
        """Cut them."""
        await self._rest.close()
