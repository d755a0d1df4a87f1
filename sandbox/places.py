"""From the meaning of a place to paths on this machine: the one file of the sandbox that looks at the file system.

A folder is left open rather than a file where files in it are replaced while we run (Kubernetes swaps the `..data`
link of a mounted secret), but never a folder in which something lies that the worker must not have.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config import Config
from ipc.messages import Worker
from sandbox.privileges import Peer, Place, Privileges

PACKAGES: Final = (
    *("cardano", "config", "gateway", "health", "ipc", "kernel", "kube", "outgoing", "policy", "sandbox", "workers"),
)
"""Our own, as far as workers import them."""

_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_ZONES: Final = ("/usr/share/zoneinfo", "/etc/localtime")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_NAMES: Final = ("hosts", "resolv.conf", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols")
_TRUST: Final = ("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/usr/share/ca-certificates")
_TOO_WIDE: Final = frozenset(
    Path("/" + name)
    for name in ("", "etc", "usr", "home", "root", "tmp", "var", "var/run", "run", "opt", "mnt", "srv", "dev/shm")
)
"""Folders that are everybody's: a file in one of them is left open as a file."""


_TOGETHER: Final = {
    Worker.ARBITER: frozenset({Place.API_CREDENTIALS, Place.COORDINATION}),
    Worker.ACTUATOR: frozenset({Place.SOURCES, Place.TARGETS}),
}
"""All of these are the worker's own: they may lie in one folder."""

_PUBLIC: Final = frozenset({"GATEWAY_TLS_CERT_FILE"})
"""Everybody is shown it."""

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts token, CA and namespace (Kubernetes: "Accessing the API from a pod")."""


class Unreachable(Exception):  # noqa: N818  # a state of the world, said to the operator
    """No API server can be found by the settings; the text says what is wrong with which."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API server as this pod reaches it."""

    hosts: tuple[str, ...]
    """The server's, and a proxy's; numbers or names."""
    ports: tuple[int, ...]
    files: tuple[Path, ...]
    """Files and folders that hold credentials and trust; they are read again when they rotate."""
    coordination: tuple[Path, ...] = ()
    """The same, of the coordination APIs."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that only declared workers may reach."""

    name: str
    """The variable that names it, or what it is."""
    path: Path
    place: Place
    owner: Worker | None = None
    """For a worker's own folder."""
    also: tuple[Path, ...] = ()
    """Where it lies when links are followed."""

    @property
    def locations(self) -> tuple[Path, ...]:
        """All paths of the same thing."""
        return (self.path, *self.also)


def installation() -> tuple[Path, ...]:
    """What every worker reads: the interpreter, the libraries, our packages, /proc, a few devices."""
    paths = {Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)}
    paths |= {Path(path) for path in sysconfig.get_paths().values()}
    paths |= {Path(p) for p in sys.path if p and os.path.isabs(p) and p.endswith(("site-packages", "dist-packages"))}  # noqa: PTH117
    root = Path(__file__).resolve().parent.parent
    paths |= {root / name for name in PACKAGES}
    paths |= {Path(path) for path in (*_LIBRARIES, *_ZONES, *_DEVICES, "/proc")}
    if python_home := os.environ.get("PYTHONPATH", ""):
        paths |= {Path(part) for part in python_home.split(os.pathsep) if os.path.isabs(part)}  # noqa: PTH117
    return _outermost(path for path in paths if path.exists())


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Without those that lie below another of them, links followed; the root folder is never one of them."""
    real = {path.resolve() for path in paths} - {Path("/")}
    return tuple(sorted(path for path in real if not real & set(path.parents)))


def secrets(config: Config) -> tuple[Secret, ...]:
    """Everything that is not for everybody, by the names under which it is configured."""
    found = [
        *(_secret(variable, path, Place.SOURCES) for variable, path in config.sources.values()),
        _secret("the service account's token", SERVICE_ACCOUNT / "token", Place.API_CREDENTIALS),
    ]
    if config.kubeconfig is not None:
        found.append(_secret("KUBECONFIG", config.kubeconfig, Place.API_CREDENTIALS))
    named = dict.fromkeys(each.kubeconfig for each in config.coordination_kubeconfigs if each.kubeconfig)
    others = [path for path in named if path != config.kubeconfig]
    found += [_secret("COORDINATION_KUBECONFIGS", path, Place.COORDINATION) for path in others]
    guarding = {variable: path for variable, path in config.gateway_files.items() if variable not in _PUBLIC}
    found += [_secret(variable, path, Place.GATEWAY) for variable, path in guarding.items()]
    if config.notify_secret_file is not None:
        found.append(_secret("NOTIFY_SECRET_FILE", config.notify_secret_file, Place.NOTIFY_KEY))
    found += [_secret(f"the {worker}'s folder", config.worker_dir(worker), Place.OWN, worker) for worker in Worker]
    return tuple(found)


def exposed_keys(config: Config) -> tuple[Secret, ...]:
    """The node's keys where they lie while it may forge: in mode `file` nothing else keeps them from our own user.

    Apart from `secrets`, since nobody may try to read them: that would be taken for the node's reading.
    """
    if config.credential_mode != "file":
        return ()
    keys = [(name, path) for name, path in config.targets.values() if path != config.target_op_cert]
    return tuple(_secret(name, path, Place.TARGETS) for name, path in keys)


def _secret(name: str, path: Path, place: Place, owner: Worker | None = None) -> Secret:
    """Also where a link at `path` would lie that is replaced by a file: Kubernetes and rotations swap links."""
    also = {_real(path), _real(path.parent) / path.name} - {path}
    return Secret(name, path, place, owner, tuple(sorted(also)))


def targets(config: Config) -> tuple[Path, ...]:
    """The folders in which the target paths stand."""
    return tuple(sorted({path.parent for _, path in config.targets.values()}))


def paths(place: Place, worker: Worker, config: Config, endpoint: Endpoint | None) -> tuple[Path, ...]:
    """What `place` means for this worker: files and folders, by name and with links followed; they need not exist."""
    own = _TOGETHER.get(worker, frozenset())
    together = own if place in own else {place}
    guarded = (*secrets(config), *exposed_keys(config))
    others = [s for s in guarded if s.place not in together and s.owner is not worker]
    forbidden = [location for secret in others for location in secret.locations]
    match place:
        case Place.SOURCES:
            return _widened((path for _, path in config.sources.values()), forbidden)
        case Place.TARGETS:
            return _followed(targets(config))
        case Place.OWN:
            return _followed((config.worker_dir(worker),))
        case Place.API_CREDENTIALS:
            return _widened(endpoint.files if endpoint is not None else (), forbidden)
        case Place.COORDINATION:
            return _widened(endpoint.coordination if endpoint is not None else (), forbidden)
        case Place.GATEWAY:
            return _widened(config.gateway_files.values(), forbidden)
        case Place.SCHEDULE:
            schedule = config.leadership_schedule
            return _widened((schedule,), forbidden) if schedule is not None else ()
        case Place.NOTIFY_KEY:
            return _widened((config.notify_secret_file,), forbidden) if config.notify_secret_file is not None else ()
        case Place.TRUST:
            import ssl  # there only in workers that speak TLS

            known = ssl.get_default_verify_paths()
            named = (known.cafile, known.capath, known.openssl_cafile, known.openssl_capath)
            return _followed(Path(path) for path in (*named, *_TRUST) if path)
        case Place.NAMES:
            return _followed(Path("/etc") / name for name in _NAMES)


def sockets(privileges: Privileges, config: Config, *, containers: bool) -> dict[Peer, tuple[Path, ...]]:
    """The folders in which the sockets of its peers lie: the sockets themselves come and go.

    containers: each worker makes its own folder, when its container starts; all of them have users of their own, who
    tell each other apart.
    """
    folders = {config.worker_dir(worker) for worker in privileges.subscribes}
    return {
        Peer.NODE: _followed((config.node_socket.parent, _real(config.node_socket).parent)),
        Peer.FOLLOWED: _followed((config.run_dir,) if containers else folders),
    }


def _followed(paths: Iterable[Path]) -> tuple[Path, ...]:
    """By name, and with links followed: whoever compares paths sees both."""
    named = set(paths)
    return tuple(sorted(named | {_real(path) for path in named}))


def _widened(files: Iterable[Path], forbidden: list[Path]) -> tuple[Path, ...]:
    """The folders of these files, where nothing else of value lies in them; else the files themselves."""
    found: set[Path] = set()
    for named in files:
        for file in {named, _real(named)}:
            folder = file if file.is_dir() else file.parent
            shared = _real(folder) in _TOO_WIDE or any(_real(folder) in {path, *path.parents} for path in forbidden)
            found.add(file if shared else folder)
    return tuple(sorted(found))


def _real(path: Path) -> Path:
    """Without symbolic links, as far as it exists."""
    return Path(os.path.realpath(path))
