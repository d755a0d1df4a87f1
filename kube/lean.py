"""The parts of `kubernetes.aio` that this product uses, and not the rest of it.

Importing `kubernetes.aio` executes the synchronous client, the dynamic client, the leader election and their
dependencies (requests, urllib3, oauthlib, websocket), and its ApiClient brings pydantic: 21 MiB and a third of a second
that nothing here uses.  Here the packages `kubernetes`, `kubernetes.aio` and `kubernetes.aio.client` are entered
without executing their `__init__`; the modules inside are the library's own.  Whoever asks such a package for anything
that is not loaded makes it load itself after all: nothing that works with the library ceases to work, it only costs
again.

`kube/__init__.py` imports this before anything else of ours imports aiohttp or the library.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

log = logging.getLogger(__name__)

_PACKAGES: Final = ("kubernetes", "kubernetes.aio", "kubernetes.aio.client")


class _OtherLayoutError(Exception):
    """The library is not laid out as this module expects."""


class _ApiClient:
    """Stands for the library's ApiClient where a module wants the name at import and calls it only on demand."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return importlib.import_module("kubernetes.aio.client.api_client").ApiClient(*arguments, **named)


def _enter(name: str) -> ModuleType:
    """The package, importable from, its `__init__` not executed before somebody asks for more."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None or not spec.submodule_search_locations:
        raise _OtherLayoutError(f"{name} is not a package")
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)

    def load(attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__version__":  # the import system and inspect look for these
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        log.debug(
            "the whole package is loaded", extra={"event": "lazy_load", "why": f"{name}.{attribute} is asked for"}
        )
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
    return package


def _load_parts() -> None:
    """Enter the packages and load the modules that are used.  Raises _OtherLayoutError, ImportError, AttributeError."""
    for name in _PACKAGES:
        client = _enter(name)
    client.__dict__["Configuration"] = importlib.import_module("kubernetes.aio.client.configuration").Configuration
    importlib.import_module("kubernetes.aio.client.rest")
    client.__dict__["ApiClient"] = _ApiClient  # for kube_config's import of the name
    try:
        importlib.import_module("kubernetes.aio.config")
    finally:
        del client.__dict__["ApiClient"]


def load() -> None:
    """Load the parts, or all of it if they are not where they should be; what was loaded before stays as it is."""
    if _PACKAGES[0] in sys.modules:
        return
    try:
        _load_parts()
    except (_OtherLayoutError, ImportError, AttributeError) as error:
        why = f"the Kubernetes client is not laid out as expected: {error}"
        log.debug("%s; all of it is loaded", why, extra={"event": "lazy_load", "why": why})
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGES[0]]:
            del sys.modules[name]
        importlib.import_module("kubernetes.aio")


@contextmanager
def _no_system_trust() -> Iterator[None]:
    """aiohttp reads the system's certificate authorities at import, into a context of its own (0.1 s, 2 MiB).

    No connection of ours uses that context: those to the API server trust what the pod or the kubeconfig says, those
    to an OIDC issuer what its entry says.  Should one ever do, it would trust nobody.  SSL_CERT_FILE and SSL_CERT_DIR:
    SSL_CTX_set_default_verify_paths(3).
    """
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# The library asks for the home at import (config/kube_config.py); a container's user may have neither it nor an entry
# in /etc/passwd.  Nothing of ours is looked for there.
os.environ.setdefault("HOME", "/")
with _no_system_trust():
    importlib.import_module("aiohttp")
load()
