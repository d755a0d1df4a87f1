"""The form in which each worker declares what it may do.

A worker's file has one `Privileges` at its top; everything else follows from it: Landlock rules and the seccomp filter
(`sandbox.plan`), what the audit expects (`sandbox.audit`), the uids that may talk to it, the table in
docs/privileges.md.  What is not declared is denied.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ipc.messages import Worker
from sandbox.syscalls import Calls


class Place(enum.Enum):
    """Files and folders by what they are; the paths follow from the configuration (`sandbox.places`)."""

    SOURCES = "source credentials"
    TARGETS = "target paths"
    OWN = "its own folder in RUN_DIR"
    API_CREDENTIALS = "API credentials"
    """The service account's token, or the kubeconfig and the files it names."""
    COORDINATION = "credentials of the coordination APIs"
    """The kubeconfigs of COORDINATION_KUBECONFIGS and the files they name."""
    SCHEDULE = "the leadership schedule"
    """The file or folder of LEADERSHIP_SCHEDULE."""
    GATEWAY = "token and TLS files of the gateway"
    """The files of GATEWAY_TOKEN_FILE, GATEWAY_TLS_CERT_FILE and GATEWAY_TLS_KEY_FILE."""
    NOTIFY_KEY = "the key for notices"
    """The file of NOTIFY_SECRET_FILE."""
    TRUST = "the system's certificate authorities"
    NAMES = "name resolution (/etc/hosts, /etc/resolv.conf, ...)"


class Socket(enum.Enum):
    """Unix sockets that a worker serves in its folder; the value is the file's name."""

    STATE = "state.sock"
    DEBUG = "debug.sock"
    COMMAND = "command.sock"


class Port(enum.Enum):
    """TCP ports by what they are for."""

    METRICS = "METRICS_PORT"
    NODE_METRICS = "the port of NODE_METRICS_URL"
    API = "the API server's port"
    HEALTH = "the ports of HEALTH_CHECK_ENDPOINT"
    """And of a proxy; with cluster management also 80 and 443, for an endpoint of the CardanoForgeCluster's."""
    NOTIFY = "the port of NOTIFY_URL"
    """And of a proxy."""


class Peer(enum.Enum):
    """Whose Unix sockets a worker connects to."""

    NODE = "the node"
    FOLLOWED = "the workers that it follows"


@dataclass(frozen=True, slots=True)
class Privileges:
    """What one worker may do, once it has started.

    Listening sockets are made before the sandbox closes; afterwards nobody can bind a port or a path.
    """

    worker: Worker
    calls: frozenset[Calls]
    """Groups of system calls; those for looking up names are added where `names` comes to bear."""
    reads: frozenset[Place] = frozenset()
    writes: frozenset[Place] = frozenset()
    serves: tuple[Socket, ...] = (Socket.STATE, Socket.DEBUG)
    subscribes: frozenset[Worker] = frozenset()
    """Whose states it follows."""
    node_socket: bool = False
    """Connects to the node's socket, to see who serves it."""
    listens: tuple[Port, ...] = ()
    connects: tuple[Port, ...] = ()
    names: bool = False
    """May look up host names (datagrams, TCP port 53), where a declared address is one."""
    keeps: bool = False
    """Has one file of its own folder mapped (`kernel.ledger`), for what its next life shall know."""
    signals: bool = False
    """May signal other processes."""
    dumpable: bool = False
    """Others of its uid may look into its /proc files."""

    @property
    def api_token(self) -> bool:
        """Whether it reads the API's credentials."""
        return Place.API_CREDENTIALS in self.reads

    @property
    def peers(self) -> frozenset[Peer]:
        """Whose Unix sockets it may connect to."""
        declared = {Peer.FOLLOWED: bool(self.subscribes), Peer.NODE: self.node_socket}
        return frozenset(peer for peer, may in declared.items() if may)

    @property
    def internet(self) -> bool:
        """Whether it may make sockets of the internet families after its start."""
        return bool(self.connects)
