"""One GET of a health endpoint over HTTP or HTTPS: an outcome within the timeout, whatever the other side does."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from yarl import URL

from health.headers import HeaderError, checked
from ipc.messages import HealthCheck
from outgoing.client import Broken, Client, ClientError, Failed, Where, address, in_words, user_as_header
from policy.health import Outcome

MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_REMEDY: Final = "set HEALTH_CHECK_ENDPOINT in the pod's environment to an address with that port"


class Checker:
    """Asks endpoints.  One check at a time."""

    def __init__(self, open_ports: Collection[int] | None = None) -> None:
        """open_ports: TCP ports that this process may connect to; None: any."""
        self._client = Client(open_ports, _REMEDY)

    async def ask(self, check: HealthCheck) -> Outcome:
        """What comes of one check; at most `check.timeout_s` seconds later."""
        began = asyncio.get_running_loop().time()
        where = Where()
        try:
            async with asyncio.timeout(check.timeout_s):
                status = await self._follow(check, where)
        except TimeoutError:
            return Outcome(healthy=False, message=f"{where}: no answer within {check.timeout_s:g} s")
        except (Failed, HeaderError) as error:
            return Outcome(healthy=False, message=f"{where}: {error}")
        except Broken:
            return Outcome(healthy=False, message=f"{where}: the connection broke before the answer ended")
        except (ClientError, OSError, ValueError) as error:
            return Outcome(healthy=False, message=f"{where}: {in_words(error)}")
        took = asyncio.get_running_loop().time() - began
        return Outcome(healthy=200 <= status < 300, message=f"{where}: answered {status}", response_s=took)

    async def _follow(self, check: HealthCheck, where: Where) -> int:
        """The status at the end of all redirects.  Raises what `ask` names."""
        url = address(check.endpoint)
        where.url = url
        headers = _with_user(checked(check.headers), url)
        async with self._client.session() as session:
            for _ in range(MOST_REDIRECTS + 1):
                answer = await self._client.ask(session, "GET", url.with_user(None), headers)
                if answer.status not in _REDIRECTS:
                    return answer.status
                following = _redirected(url, answer.status, answer.headers.get("Location", ""))
                where.url = following
                if following.origin() != url.origin():
                    headers = {}  # for good: whoever sends us elsewhere could also send us back
                url = following
        raise Failed(f"more than {MOST_REDIRECTS} redirects")


def _redirected(url: URL, status: int, location: str) -> URL:
    """Where an answer sends us; a user in there is not ours to send.  Raises Failed."""
    if not location:
        raise Failed(f"answered {status} without an address to go to")
    try:
        following = url.join(URL(location))
    except ValueError:
        raise Failed(f"answered {status} with an address that is not a URL") from None
    if following.scheme not in ("http", "https") or not following.raw_host or not following.port:
        raise Failed(f"answered {status} with an address that is neither http:// nor https://")
    if url.scheme == "https" and following.scheme != "https":
        raise Failed(f"answered {status} with an address without TLS")
    return following.with_user(None)


def _with_user(headers: dict[str, str], url: URL) -> dict[str, str]:
    """User and password of the address as the header that they mean, unless it is given."""
    if any(name.lower() == "authorization" for name in headers):
        return headers
    return headers | user_as_header("Authorization", url)
