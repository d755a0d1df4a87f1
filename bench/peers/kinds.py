"""Which peers there are, how each is built, and what it needs on the API server.

Programs are built into the cache (`devkit.gobuild`): Go from bench/peers/go, Python into a virtual environment with the
pinned versions of bench/peers/python/requirements.txt.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devkit import gobuild
from devkit.gobuild import BuildError
from devkit.realapi.client import AdminClient, SetupError

_HERE: Final = Path(__file__).parent
GO: Final = _HERE / "go"
REQUIREMENTS: Final = _HERE / "python" / "requirements.txt"
SERVED_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer.  `build` gives the command that its arguments follow, and raises BuildError."""

    name: str
    """Of the peer in figures and of its lease; letters, digits and hyphens."""
    version: str
    settings: str
    """What differs from a lease of 15 s, a renew deadline of 10 s and a retry after 2 s; empty: nothing."""
    build: Callable[[], list[str]]
    prepare: Callable[[AdminClient, str], None]
    """What an operator applies before the first instance: into this namespace, which is there."""
    first: str = "GET"
    """The method of the first request by which an instance takes part."""


def go_program(package: str) -> list[str]:
    """One of bench/peers/go.  Raises BuildError."""
    files = ("go.mod", "go.sum", "belief/belief.go", f"{package}/main.go")
    program = gobuild.program_path(f"peer-{package}", GO, files)
    return [str(gobuild.build(program, GO, f"./{package}", ""))]


def python_program(module: str) -> list[str]:
    """One of bench/peers/python.  Raises BuildError."""
    pinned = REQUIREMENTS.read_bytes() + sys.version.encode()
    folder = gobuild.cache_folder("peers-python") / hashlib.sha256(pinned).hexdigest()[:16]
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([*install, "--requirement", str(REQUIREMENTS)], check=True)
            subprocess.run([str(python), "-m", "compileall", "-q", str(folder / "lib")], check=False)
        except subprocess.CalledProcessError as error:
            raise BuildError(f"the environment of the Python peers: exit code {error.returncode}") from error
        (folder / "complete").touch()
    return [str(python), "-m", f"bench.peers.python.{module}"]


def _nothing(admin: AdminClient, namespace: str) -> None:
    """The peer makes its Lease itself."""


def _peering(admin: AdminClient, namespace: str) -> None:
    """kopf's KopfPeering and one object of it, and the Lease that its daemon is about.  Raises SetupError."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "KopfPeering", "plural": "kopfpeerings", "singular": "kopfpeering"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "kopfpeerings.kopf.dev"},
        "spec": {"group": "kopf.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    admin.create(definition)
    end = time.monotonic() + SERVED_S
    while not admin.served(definition):
        if time.monotonic() > end:
            raise SetupError("KopfPeering is not served")
        time.sleep(0.05)
    peering = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "kopf"}}
    admin.create(peering, namespace)
    admin.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "work"}}, namespace)


def _go_version(module: str) -> str:
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (GO / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _python_version(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


KINDS: Final = (
    Kind("client-go", _go_version("k8s.io/client-go"), "", lambda: go_program("client-go"), _nothing),
    Kind(
        "controller-runtime",
        _go_version("sigs.k8s.io/controller-runtime"),
        "",
        lambda: go_program("controller-runtime"),
        _nothing,
    ),
    Kind(
        "kubernetes-python",
        _python_version("kubernetes"),
        "",
        lambda: python_program("kubernetes_election"),
        _nothing,
    ),
    Kind(
        "kopf",
        _python_version("kopf"),
        "peering: lifetime 15 s, a sign of life 5 to 10 s before it ends, a priority for each instance",
        lambda: python_program("kopf_peering"),
        _peering,
        first="PATCH",
    ),
)
