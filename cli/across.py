"""The verbs across clusters, as arguments; what they do is imported when one of them is called.

`places` finds out which coordination APIs are meant, and `wanted` which pool, from options, environment and kubeconfig.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, Final

from cli.where import NETWORKS
from config import Config
from policy.health import parse_duration

CODES: Final = (
    "exit codes: 0 done; 1 nobody forges, a conflict, sets that differ, an object that cannot be read, refused or not "
    "in time; 2 usage or configuration; 3 no coordination API could be asked"
)
MOST_S: Final = 366 * 86400.0
ABOUT: Final = (
    "Asks the coordination APIs that --kubeconfig and --context name, else COORDINATION_KUBECONFIGS, else KUBECONFIG, "
    "the pod's service account or ~/.kube/config. What is written goes to the first of them that answers; the "
    "clusters' arbiters carry it to the others. Ages and expiries are by this machine's clock."
)


def add_commands(commands: Any, reason: Callable[[str], str]) -> None:
    """Add them to forgectl's (what `add_subparsers` gave).  reason: parses one line of text."""
    where = argparse.ArgumentParser(add_help=False)
    add_where(where)
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="as JSON")

    def add(name: str, text: str, command: Callable[[Config, argparse.Namespace], None]) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}. {ABOUT}", epilog=CODES, parents=[where, output]
        )
        made.set_defaults(command=command)
        return made

    add(
        "clusters",
        "all clusters of the pool, who forges and why not, and the pool-wide lock; without any, its CardanoLeader",
        _clusters,
    )

    disable = add("disable", "a cluster may not forge: for a while, or until it is enabled", _disable)
    _add_cluster(disable)
    _add_for(disable, "how long, such as 4h or 1h30m; without it until it is enabled")
    disable.add_argument("--reason", type=reason, default="", metavar="TEXT")
    disable.add_argument("--yes", action="store_true", help="do not ask, even if no other cluster could forge")

    enable = add("enable", "a cluster stands by its priority again, without an override", _enable)
    _add_cluster(enable)
    enable.add_argument("--force", action="store_true", help="Enabled: before every cluster that is not")

    override = add("override", "set a cluster's priority or state for a while, or end that", _override)
    _add_cluster(override)
    override.add_argument("--priority", type=_priority, metavar="N", help="1 (first) to 999")
    override.add_argument("--state", type=str.capitalize, choices=("Enabled", "Disabled"))
    _add_for(override, "how long, such as 4h or 1h30m")
    override.add_argument("--reason", type=reason, default="", metavar="TEXT")
    override.add_argument("--clear", action="store_true", help="end the override")
    override.add_argument("--yes", action="store_true", help="do not ask, even if no other cluster could forge")

    switch = add("switchover", "make a cluster forge now, and wait until it says that it does", _switchover)
    _add_cluster(switch, "TO")
    _add_for(switch, "how long it comes first (default 1h)", 3600.0)
    switch.add_argument("--reason", type=reason, default="switchover by forgectl", metavar="TEXT")
    switch.add_argument("--force", action="store_true", help="even if it is Disabled, silent or not ready")
    switch.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait")
    switch.add_argument(
        "--timeout", type=duration, default=60.0, metavar="DURATION", help="longest wait (default 60s; a number: s)"
    )

    pause = add("pause", "nothing is handed or taken over by itself until it is resumed", _pause)
    _add_for(pause, "how long, such as 4h or 1h30m; without it until `forgectl resume`")
    pause.add_argument("--reason", type=reason, default="", metavar="TEXT")
    resume = add("resume", "end a pause", _resume)
    for each in (pause, resume):
        text = "the election of this Lease alone: the forging stays with its pod (default with cluster management: the "
        each.add_argument("--lease", metavar="NAME", help=f"{text}pool-wide lock: it stays in its cluster)")

    history = add("history", "what happened to the pool's clusters and its lock, newest last", _history)
    history.add_argument("--limit", type=_limit, default=30, metavar="N", help="the last N (default 30)")


def add_where(parser: argparse.ArgumentParser) -> None:
    """The options that say which coordination APIs and which pool."""
    group = parser.add_argument_group("where")
    text = "kubeconfig, or FILE#CONTEXT; repeatable or separated by commas"
    group.add_argument("--kubeconfig", action="append", metavar="FILE", help=text)
    text = "context of the kubeconfig; repeatable or separated by commas"
    group.add_argument("--context", action="append", metavar="NAME", help=text)
    group.add_argument(
        "--namespace", "-n", type=_namespace, metavar="NAME", help="default: as the pods' or the context's"
    )
    group.add_argument("--network", choices=NETWORKS, help="default: CARDANO_NETWORK")
    group.add_argument(
        "--pool", type=_pool, metavar="ID", help="bech32 or hex; default: POOL_ID, or the only one there"
    )


def names_a_place(arguments: argparse.Namespace) -> bool:
    """Whether any option of `add_where` was given."""
    return any((arguments.kubeconfig, arguments.context, arguments.namespace, arguments.network, arguments.pool))


def duration(text: str) -> float:
    """Seconds of 4h, 90s, 1h30m; of a bare number, too."""
    try:
        seconds = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not math.isfinite(seconds) or not 0 < seconds <= MOST_S:
        raise argparse.ArgumentTypeError("must be more than 0 s and at most 366 days")
    return seconds


def _with_unit(text: str) -> float:
    try:
        parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return duration(text)


def _add_cluster(parser: argparse.ArgumentParser, name: str = "CLUSTER") -> None:
    parser.add_argument("cluster", metavar=name, help="name of its CardanoForgeCluster, or its region")


def _add_for(parser: argparse.ArgumentParser, text: str, default: float | None = None) -> None:
    parser.add_argument("--for", dest="seconds", type=_with_unit, default=default, metavar="DURATION", help=text)


def _priority(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 999")
    return int(text)


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _namespace(text: str) -> str:
    if len(text) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text):
        raise argparse.ArgumentTypeError("must be a DNS label: lower case letters, digits and '-', at most 63")
    return text


def _pool(text: str) -> str:
    text = text.lower()
    if not re.fullmatch(r"pool1[a-z0-9]{5,100}|[0-9a-f]{10}|[0-9a-f]{56}", text):
        raise argparse.ArgumentTypeError("must be a pool id, bech32 (pool1...) or 56 hexadecimal digits")
    return text


# --- which pool ---


def _clusters(config: Config, arguments: argparse.Namespace) -> None:
    from cli import pool

    pool.command(config, arguments)


def _disable(config: Config, arguments: argparse.Namespace) -> None:
    from cli import commanding

    commanding.disable(config, arguments)


def _enable(config: Config, arguments: argparse.Namespace) -> None:
    from cli import commanding

    commanding.enable(config, arguments)


def _override(config: Config, arguments: argparse.Namespace) -> None:
    from cli import commanding

    commanding.override(config, arguments)


def _switchover(config: Config, arguments: argparse.Namespace) -> None:
    from cli import switching

    switching.command(config, arguments)


def _pause(config: Config, arguments: argparse.Namespace) -> None:
    from cli import pausing

    pausing.pause(config, arguments)


def _resume(config: Config, arguments: argparse.Namespace) -> None:
    from cli import pausing

    pausing.resume(config, arguments)


def _history(config: Config, arguments: argparse.Namespace) -> None:
    from cli import history

    history.command(config, arguments)
