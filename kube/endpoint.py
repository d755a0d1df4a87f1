"""Where the API server is and which files speak to it: known before the sandbox closes, which must leave them open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts token, CA and namespace (Kubernetes: "Accessing the API from a pod")."""
_HTTPS: Final = 443


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API server as this pod reaches it."""

    host: str
    ports: tuple[int, ...]
    """The server's, and a proxy's."""
    files: tuple[Path, ...]
    """Files and folders that hold credentials and trust; they are read again when they rotate."""


def find(kubeconfig: Path | None, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """By kubeconfig, or by what the kubelet tells a pod.  Raises SessionConfigError."""
    from kube.errors import SessionConfigError  # brings a client with it: only who needs the API comes here

    if kubeconfig is None:
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise SessionConfigError(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name an API server; set KUBECONFIG outside "
                "a cluster"
            )
        return Endpoint(host, (int(port),), (SERVICE_ACCOUNT,))
    from kube.settings import read_kubeconfig

    content = read_kubeconfig(kubeconfig)
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    named = [cluster.get("certificate-authority"), *(user.get(k) for k in _USERS_FILES)]
    host, port_number = _address(kubeconfig, str(cluster["server"]))
    ports = [port_number]
    if proxy := cluster.get("proxy-url"):
        ports.append(_address(kubeconfig, str(proxy))[1])
    return Endpoint(host, tuple(ports), (kubeconfig, *(Path(str(name)) for name in named if name)))


_USERS_FILES: Final = ("client-certificate", "client-key", "tokenFile")


def _address(kubeconfig: Path, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else _HTTPS)
    except ValueError:
        from kube.errors import SessionConfigError

        raise SessionConfigError(f"KUBECONFIG {kubeconfig}: an address in it has an impossible port") from None
    return parts.hostname or "", port
