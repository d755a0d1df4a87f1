"""How to reach an API server: the pod's service account or a kubeconfig, as settings of `kubernetes.aio`.

A kubeconfig is checked here before the library sees it, since the library's complaints name neither the file nor the
remedy, may quote a whole user entry (token included), and take a missing `server` for http://localhost.  Certificates
and keys written into the kubeconfig itself never touch a disk: pods run on read-only file systems.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration

from kube.client import Connections
from kube.errors import SessionConfigError, classify
from policy.no_proxy import excepted

POOL_SIZE: Final = 8
"""Connections at once: a watch, a renewal and a status write, with room."""
_USER_FILES: Final = ("client-certificate", "client-key")
_PATHS: Final = ("client-certificate", "client-key", "tokenFile")
_PROGRAMS: Final = ("gcp",)
"""Names of an auth-provider that get their tokens from a program (kubernetes.aio.config.google_auth)."""


async def load_client(kubeconfig: Path | None, context: str = "") -> Connections:
    """Connections for the kubeconfig (its current context, or the one named), or for the pod's service account if None.

    Raises SessionConfigError.
    """
    # Not trust_env: it would read ~/.netrc in a thread for every request, and a closed sandbox has no threads.
    session = {"middlewares": (_send_once,), "trust_env": False}
    settings = Configuration(connection_pool_maxsize=POOL_SIZE, client_session_kwargs=session)
    with ExitStack() as stack:
        if kubeconfig is None:
            _load_service_account(settings)
            subject = "the pod's service account"
        else:
            subject = f"KUBECONFIG {kubeconfig}"
            await _load_kubeconfig(kubeconfig, context, settings, stack)
        settings.proxy = settings.proxy or proxy_for(settings.host)
        try:
            client = Connections(settings)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise SessionConfigError(
                f"{subject}: its certificates or keys cannot be used ({type(error).__name__}); they must be PEM, "
                "readable, and the key must belong to the certificate"
            ) from None
    _strip_token(settings)
    return client


def proxy_for(server: str) -> str | None:
    """The proxy that the environment names for this server (HTTPS_PROXY, NO_PROXY, ...), as other clients read it."""
    parts = urlsplit(server)
    proxies = getproxies()
    if not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return None if excepted(parts.hostname, proxies.get("no", "")) else proxies.get(parts.scheme)


def _load_service_account(settings: Any) -> None:
    try:
        kube_config.load_incluster_config(client_configuration=settings)
    except kube_config.ConfigException as error:
        raise SessionConfigError(
            f"the pod's service account cannot be used: {error} Set automountServiceAccountToken: true, "
            "or KUBECONFIG outside a cluster."
        ) from None
    except (OSError, ValueError) as error:
        raise SessionConfigError(
            f"the pod's service account cannot be used: its token or certificate cannot be read "
            f"({type(error).__name__}); check the pod's fsGroup"
        ) from None


async def _load_kubeconfig(path: Path, context: str, settings: Any, stack: ExitStack) -> None:
    content = read_kubeconfig(path, context)
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    authority = cluster.pop("certificate-authority-data", None)
    if authority:
        settings.ca_cert_data = _decoded(path, "certificate-authority-data", authority).decode("ascii", "replace")
        cluster.pop("certificate-authority", None)
    for name in _USER_FILES:
        if data := user.pop(f"{name}-data", None):
            user[name] = stack.enter_context(_memory_file(name, _decoded(path, f"{name}-data", data)))
    try:
        await kube_config.load_kube_config_from_dict(content, client_configuration=settings)
    except kube_config.ConfigException as error:
        raise SessionConfigError(f"KUBECONFIG {path}: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SessionConfigError(
            f"KUBECONFIG {path}: the user's credentials cannot be loaded ({type(error).__name__}); try kubectl with it"
        ) from None


def read_kubeconfig(path: Path, named: str = "") -> dict[str, Any]:
    """The kubeconfig reduced to its current context, or the one named, its relative paths made absolute.

    Raises SessionConfigError.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise SessionConfigError(f"KUBECONFIG {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SessionConfigError(f"KUBECONFIG {path} is not YAML; write it anew (kubectl config view --raw)") from None
    if not isinstance(content, dict):
        raise SessionConfigError(f"KUBECONFIG {path} is not a kubeconfig; write it anew (kubectl config view --raw)")
    current = named or content.get("current-context")
    if not isinstance(current, str) or not current:
        raise SessionConfigError(f"KUBECONFIG {path}: no current-context; set one (kubectl config use-context)")
    context = _named(path, content, "contexts", "context", current)
    cluster = _named(path, content, "clusters", "cluster", context.get("cluster"))
    user_name = context.get("user")
    user = _named(path, content, "users", "user", user_name) if user_name else {}
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("https://", "http://")):
        raise SessionConfigError(f"KUBECONFIG {path}: the cluster's server must be an http(s) address")
    _refuse_programs(path, user)
    _make_absolute(path, cluster, ("certificate-authority",))
    _make_absolute(path, user, _PATHS)
    return {
        "current-context": "current",
        "contexts": [{"name": "current", "context": {"cluster": "current", "user": "current"}}],
        "clusters": [{"name": "current", "cluster": cluster}],
        "users": [{"name": "current", "user": user}],
    }


def _named(path: Path, content: dict[str, Any], kind: str, inner: str, name: object) -> dict[str, Any]:
    entries = content.get(kind)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(inner)
            if found is None or isinstance(found, dict):
                return dict(found or {})
    raise SessionConfigError(f"KUBECONFIG {path}: no {inner} of the name the context gives under {kind}")


def _refuse_programs(path: Path, user: dict[str, Any]) -> None:
    """A worker may start no program: such a token would work until it expires, and never again."""
    provider = user.get("auth-provider")
    field = "exec" if user.get("exec") else ""
    if isinstance(provider, dict) and provider.get("name") in _PROGRAMS:
        field = f"auth-provider {provider['name']}"
    if field:
        raise SessionConfigError(
            f"KUBECONFIG {path}: the user's {field} gets its credentials from a program, and the sandbox lets no "
            "worker start one; use a service account's token in a file (tokenFile), or no KUBECONFIG inside the cluster"
        )


def _make_absolute(path: Path, entry: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        value = entry.get(name)
        if not value:
            entry.pop(name, None)
            continue
        file = path.parent.absolute() / str(value)
        if not file.is_file():
            raise SessionConfigError(f"KUBECONFIG {path}: {name} names {file}, which is no file")
        entry[name] = str(file)


def _decoded(path: Path, name: str, value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except binascii.Error:
        raise SessionConfigError(f"KUBECONFIG {path}: {name} is not base64") from None


@contextmanager
def _memory_file(name: str, content: bytes) -> Iterator[str]:
    """A path to a file that lives in memory: ssl loads client certificates from files only."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends a GET or PUT again by itself when its connection breaks; we count requests and decide ourselves."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # never sent; not repeated either, and names its reason
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise classify(error, 0) from None


def _strip_token(settings: Any) -> None:
    """Token files written by hand end with a newline, which no HTTP header may hold; the library keeps it."""
    refresh = settings.refresh_api_key_hook

    def strip(changed: Any) -> None:
        if refresh is not None:
            refresh(changed)
        for name, key in changed.api_key.items():
            changed.api_key[name] = key.strip()

    settings.refresh_api_key_hook = strip
