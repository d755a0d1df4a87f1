"""What a test may ask of a Kubernetes API server, be it the embedded one or the real one.

`ApiServer` is the asyncio side, `SyncApiServer` adds the blocking calls of servers which do not live in the caller's
event loop.  `kill` ends the server without a goodbye, `restart` brings it back under the same address with the same
objects; what a watch may resume from is gone by then, as it is after a real restart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

Counts = dict[str, dict[str, int]]
"""Requests for resources (not discovery, not health) since the start: user name -> verb -> number.

Verbs are the audit log's: get, list, watch, create, update, patch, delete.
"""

ADMIN = "admin"
"""The user that every server knows; a member of system:masters on the real one."""

ANONYMOUS = "system:anonymous"
"""Who everybody is on a server without tokens."""


@runtime_checkable
class ApiServer(Protocol):
    """A Kubernetes API server on 127.0.0.1."""

    @property
    def url(self) -> str:
        """Without a trailing slash; the same after a restart."""

    @property
    def ca_file(self) -> Path | None:
        """The certificates to trust; None: the server speaks plain HTTP."""

    def token_for(self, user: str) -> str | None:
        """The user's bearer token; None: the server asks for none.  KeyError: no such user."""

    def write_kubeconfig(self, path: Path, user: str = ADMIN) -> None:
        """A kubeconfig for that user, readable by its owner alone."""

    def counts(self) -> Counts:
        """See `Counts`; a running watch counts once."""

    async def start(self) -> None:
        """Returns when the server is ready."""

    async def stop(self) -> None:
        """Ends it, in order.  Nothing of it is left; calling it twice is harmless."""

    async def kill(self) -> None:
        """Ends answering at once, connections are cut; the objects stay for `restart`."""

    async def restart(self) -> None:
        """Ends it in order, if it runs, and starts it again."""


@runtime_checkable
class SyncApiServer(ApiServer, Protocol):
    """A server with a thread or processes of its own: also for code without an event loop."""

    def start_sync(self) -> None: ...

    def stop_sync(self) -> None: ...

    def kill_sync(self) -> None: ...

    def restart_sync(self) -> None: ...
