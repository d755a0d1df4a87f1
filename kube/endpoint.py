"""Where the API server is and which files speak to it: known before the sandbox closes, which must leave them open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from config import Config
from kube.errors import SessionConfigError
from kube.settings import proxy_for, read_kubeconfig
from sandbox.places import SERVICE_ACCOUNT, Endpoint, Unreachable

_HTTPS: Final = 443
_USERS_FILES: Final = ("client-certificate", "client-key", "tokenFile")


def find(config: Config) -> Endpoint:
    """The pod's own API server.  Raises Unreachable."""
    return by_settings(config.kubeconfig)


def find_with_coordinators(config: Config) -> Endpoint:
    """The pod's own, and with cluster management those that hold the pool-wide lock.  Raises Unreachable."""
    own = by_settings(config.kubeconfig)
    named = config.coordination_kubeconfigs if config.enable_cluster_management else ()
    others = [by_settings(each.kubeconfig or config.kubeconfig, context=each.context) for each in named]
    found = [own, *others]
    return Endpoint(
        hosts=tuple(dict.fromkeys(host for one in found for host in one.hosts)),
        ports=tuple(dict.fromkeys(port for one in found for port in one.ports)),
        files=own.files,
        coordination=tuple(dict.fromkeys(file for one in others for file in one.files if file not in own.files)),
    )


def by_settings(kubeconfig: Path | None, environment: Mapping[str, str] = os.environ, *, context: str = "") -> Endpoint:
    """By kubeconfig, or by what the kubelet tells a pod.  Raises Unreachable."""
    if kubeconfig is None:
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal():
            raise Unreachable(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name an API server; set KUBECONFIG outside "
                "a cluster"
            )
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        return _endpoint(server, None, (SERVICE_ACCOUNT,), "the pod's service account")
    try:
        content = read_kubeconfig(kubeconfig, context)
    except SessionConfigError as error:
        raise Unreachable(str(error)) from None
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    named = [cluster.get("certificate-authority"), *(user.get(k) for k in _USERS_FILES)]
    files = (kubeconfig, *(Path(str(name)) for name in named if name))
    return _endpoint(str(cluster["server"]), cluster.get("proxy-url"), files, f"KUBECONFIG {kubeconfig}")


def _endpoint(server: str, proxy: object, files: tuple[Path, ...], subject: str) -> Endpoint:
    found = [_address(server, subject)]
    if proxy := proxy or proxy_for(server):  # only now: it takes the server's address for a possible one
        found.append(_address(proxy, subject))
    hosts, ports = zip(*found, strict=True)
    return Endpoint(hosts, ports, files)


def _address(url: object, subject: str) -> tuple[str, int]:
    try:
        parts = urlsplit(str(url))
        port = parts.port or (80 if parts.scheme == "http" else _HTTPS)
    except ValueError:
        raise Unreachable(
            f"{subject}: the address of the server or of a proxy has an impossible host or port"
        ) from None
    return parts.hostname or "", port
