"""From a declaration to rules: what exactly one worker's sandbox leaves open.  Pure: paths and ports come in.

`exposed` promises that nothing of value is left open by an accident of paths (a secret mounted below /usr, a
kubeconfig beside the keys): a worker with such a plan must not start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.landlock import Access, Scope
from sandbox.places import Secret
from sandbox.privileges import Peer, Place, Privileges
from sandbox.seccomp import Permit, permits
from sandbox.syscalls import Calls

READ: Final = Access.READ_FILE | Access.READ_DIR
_OWN: Final = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
)
_LINKS: Final = Access.READ_DIR | Access.MAKE_SYM | Access.REMOVE_FILE
"""For target paths that are links to our working directory."""
_PLAIN: Final = _LINKS | READ | Access.MAKE_REG | Access.WRITE_FILE | Access.TRUNCATE
_DNS: Final = 53


@dataclass(frozen=True, slots=True)
class PathRule:
    """These rights stay for `path` and what lies below it."""

    path: Path
    rights: Access
    place: Place | Peer | None
    """None: every worker's."""

    @property
    def opens(self) -> bool:
        """Whether it leaves more open than connecting to sockets, which ask who connects."""
        return self.rights != Access.RESOLVE_UNIX


@dataclass(frozen=True, slots=True)
class Plan:
    """What one worker's sandbox leaves open."""

    rules: tuple[PathRule, ...]
    ports: tuple[int, ...]
    """TCP ports that it may connect to."""
    scopes: Scope
    permits: tuple[Permit, ...]
    dumpable: bool
    datagrams: tuple[int, ...] = ()
    """UDP ports that it may send to."""


def make(
    privileges: Privileges,
    *,
    installation: Iterable[Path],
    places: Mapping[Place, tuple[Path, ...]],
    ports: Iterable[int],
    names: bool,
    plain_targets: bool,
    links: bool = False,
    peers: Mapping[Peer, tuple[Path, ...]],
) -> Plan:
    """The plan of one worker.

    places: the paths of what it declares.  ports: of what it connects to.  names: whether one of the addresses is a
    host name and not a number.  plain_targets: CREDENTIAL_MODE=file.  links: CREDENTIAL_MODE=kes-agent,
    where a set has one in it.  peers: the folders of their sockets.
    """
    looks_up = privileges.names and names
    rules = [PathRule(path, READ, None) for path in installation]
    for place in sorted(privileges.reads | privileges.writes, key=lambda p: p.name):
        rights = READ
        if place in privileges.writes:
            rights = _OWN if place is Place.OWN else _PLAIN if plain_targets else _LINKS
            if links and place is Place.OWN and Place.TARGETS in privileges.writes:
                rights |= Access.MAKE_SYM
        if place is Place.NAMES and not looks_up:
            continue
        rules += [PathRule(path, rights, place) for path in places[place]]
    for peer in sorted(privileges.peers, key=lambda p: p.name):
        rules += [PathRule(path, Access.RESOLVE_UNIX, peer) for path in peers[peer]]
    scopes = Scope.ABSTRACT_SOCKETS if privileges.signals else Scope.ABSTRACT_SOCKETS | Scope.SIGNALS
    return Plan(
        rules=tuple(rules),
        ports=tuple(sorted({*ports, _DNS} if looks_up else set(ports))),
        scopes=scopes,
        permits=permits(
            privileges.calls | {Calls.THREADS, Calls.NAMES} if looks_up else privileges.calls,
            internet=privileges.internet,
            names=looks_up,
            signals=privileges.signals,
        ),
        dumpable=privileges.dumpable,
        datagrams=(_DNS,) if looks_up else (),
    )


def declared(privileges: Privileges, secret: Secret) -> bool:
    """Whether this worker may have it."""
    mine = privileges.reads | privileges.writes
    return secret.owner is privileges.worker or (secret.owner is None and secret.place in mine)


def exposed(plan: Plan, privileges: Privileges, secrets: Iterable[Secret]) -> tuple[str, ...]:
    """What this plan would leave open though it is not declared, a line for each rule with the remedy; empty: nothing.

    Paths are compared as they are written, so both sides must come with their links followed too (`sandbox.places`).
    """
    undeclared = [secret for secret in secrets if not declared(privileges, secret)]
    found = []
    for rule in filter(lambda rule: rule.opens, plan.rules):
        if inside := [secret for secret in undeclared if _opens(rule.path, secret)]:
            undeclared = [secret for secret in undeclared if secret not in inside]  # each is told once
            names = ", ".join(f"{secret.name} ({secret.path})" for secret in inside)
            them = "it" if len(inside) == 1 else "these"
            found.append(
                f"{rule.path}, which the {privileges.worker} may use, leads to {names}, which it must not have; "
                f"mount {them} elsewhere"
            )
    return tuple(found)


def _opens(path: Path, secret: Secret) -> bool:
    """Whether a rule for `path` reaches the secret, or part of it where the secret is a worker's folder."""
    return any(
        path == location or path in location.parents or (secret.owner is not None and location in path.parents)
        for location in secret.locations
    )
