"""Which coordination APIs forgectl asks, about which pool: by its options, the environment, or kubectl's files."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cardano.pool_id import PREFIX, bech32_of
from cli.asking import Misused
from config import Config

NETWORKS: Final = ("mainnet", "preprod", "preview", "custom")

_SHOWN: Final = 10
"""Characters of a pool id in labels."""


def short_id(pool: str) -> str:
    """What labels show of a pool id, given in either form, also by its first ten characters."""
    return (pool if pool.startswith(PREFIX) else bech32_of(pool))[:_SHOWN]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pool is meant."""

    networks: tuple[str, ...]
    pools: tuple[str, ...]
    """As labels show it; empty: any."""
    pool_id: str
    """Whole, if it is known; empty: not."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of kube.forge_clusters.POOL_LABEL; empty: any."""
        return tuple(f"{network}-{pool}" for network in self.networks for pool in self.pools)


def wanted(config: Config, arguments: argparse.Namespace) -> Wanted:
    """By the options, else by the environment."""
    ours = config.pool_label if not arguments.pool else ""
    if arguments.network:
        networks: tuple[str, ...] = (arguments.network,)
    elif ours or "CARDANO_NETWORK" in config.explicit:
        networks = (config.cardano_network,)
    else:
        networks = NETWORKS
    if ours:
        return Wanted(networks, (ours,), config.pool_id)
    whole = arguments.pool if arguments.pool and arguments.pool.startswith("pool1") and len(arguments.pool) > 15 else ""
    return Wanted(networks, (short_id(arguments.pool),) if arguments.pool else (), whole)


# --- which coordination APIs ---


@dataclass(frozen=True, slots=True)
class Place:
    """One coordination API."""

    name: str
    """As it was written."""
    kubeconfig: Path | None
    """None: the pod's service account."""
    context: str
    namespace: str
    kubectl: tuple[str, ...]
    """What makes kubectl ask the same one, without the namespace."""

    def same_by(self, *words: str) -> str:
        """The command line of kubectl that does this here."""
        return shlex.join(("kubectl", *self.kubectl, "--namespace", self.namespace, *words))


def places(config: Config, arguments: argparse.Namespace, variable: str, stack: ExitStack) -> tuple[Place, ...]:
    """In the order in which they are to be asked; usable until `stack` is closed.  Raises Misused.

    variable: KUBECONFIG as it was written, which may name several files.
    """
    from cli import kubeconfigs  # with yaml: no other command needs it

    usual = kubeconfigs.usual_files(variable)
    found = []
    for name, files, context, in_cluster in _named(config, arguments, usual, in_cluster=_inside(variable)):
        prepared = None
        if not in_cluster:
            prepared = kubeconfigs.prepare(files, context, stack)
        namespace = arguments.namespace or (
            config.coordination_namespace
            if prepared is None or config.explicit & {"NAMESPACE", "COORDINATION_NAMESPACE"}
            else prepared.namespace or config.coordination_namespace
        )
        kubectl = [] if files == usual or in_cluster else ["--kubeconfig", str(files[0])]
        kubectl += ["--context", context] if context else []
        found.append(
            Place(
                name=name,
                kubeconfig=prepared.path if prepared is not None else None,
                context=prepared.context if prepared is not None else "",
                namespace=namespace,
                kubectl=tuple(kubectl),
            )
        )
    return tuple(found)


def _inside(variable: str) -> bool:
    """Whether the pod's service account is what there is."""
    return not variable and "KUBERNETES_SERVICE_HOST" in os.environ


def _named(
    config: Config, arguments: argparse.Namespace, usual: tuple[Path, ...], *, in_cluster: bool
) -> list[tuple[str, tuple[Path, ...], str, bool]]:
    """Name, files, context, and whether it is the service account's.  Raises Misused."""
    given = [_split(word) for word in _words(arguments.kubeconfig)]
    contexts = _words(arguments.context)
    if given and contexts:
        if len(given) > 1 or given[0][2]:
            raise Misused("--context goes with one --kubeconfig; for several write FILE#CONTEXT")
        return [(context, given[0][1], context, False) for context in contexts]
    if given:
        return [(*each, False) for each in given]
    if contexts:
        _need(usual)
        return [(context, usual, context, False) for context in contexts]
    if "COORDINATION_KUBECONFIGS" not in config.explicit:
        if not in_cluster:
            _need(usual)
        return [("own" if in_cluster else "current context", usual, "", in_cluster)]
    found = []
    for each in config.coordination_kubeconfigs:
        own = each.kubeconfig is None
        if own and not (in_cluster and not each.context):
            _need(usual)
        files = usual if each.kubeconfig is None else (each.kubeconfig,)
        found.append((each.name, files, each.context, own and in_cluster and not each.context))
    return found


def _need(usual: tuple[Path, ...]) -> None:
    if not usual:
        raise Misused("no kubeconfig: give --kubeconfig FILE or set KUBECONFIG; there is no ~/.kube/config either")


def _words(given: list[str] | None) -> list[str]:
    found = [word.strip() for text in given or [] for word in text.split(",")]
    if not all(found):
        raise Misused("an empty name among those of --kubeconfig or --context")
    if len(set(found)) < len(found):
        raise Misused("one of --kubeconfig or --context is given twice")
    return found


def _split(word: str) -> tuple[str, tuple[Path, ...], str]:
    file, _, context = word.partition("#")
    return word, (Path(file),), context


def without_many(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment less a KUBECONFIG that workers could not use: several files, or a path that is not absolute."""
    known = dict(environment)
    if os.pathsep in known.get("KUBECONFIG", "") or not known.get("KUBECONFIG", "/").startswith("/"):
        del known["KUBECONFIG"]
    return known
