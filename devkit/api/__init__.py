"""An embedded Kubernetes API server, good enough for kubectl and kubernetes clients; see `EmbeddedApi`."""

from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.api.server_protocol import ADMIN, ANONYMOUS, ApiServer, Counts, SyncApiServer

__all__ = ["ADMIN", "ANONYMOUS", "ApiServer", "Counts", "EmbeddedApi", "SyncApiServer", "ThreadedApi"]
