"""What `forgectl doctor` does: gathers the facts side by side, has them judged, shows the findings."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from cli import across, doctor_api, doctor_pod
from cli.asking import printable
from cli.doctor_api import Server
from cli.where import Place, places, wanted, without_many
from config import Config, ConfigError, load
from config.spelling import misspelt
from config.variables import variables
from ipc.messages import Worker
from policy.doctor import checks
from policy.doctor.findings import Finding, Subject, Unseen, Weight, worst_first
from policy.doctor.judge import Facts, Settings, Wrong, exit_code, judge
from policy.doctor.servers import Timing

_SIGNS: Final = ("RUN_DIR", "POD_NAME", "KUBERNETES_SERVICE_HOST")
"""Variables of the sidecar's container."""
_COLOURS: Final = {Weight.ERROR: "31", Weight.WARNING: "33", Weight.NOT_LOOKED_AT: "36", Weight.INFO: "32"}
_WORDS: Final = {Weight.NOT_LOOKED_AT: "not looked at"}


def command(environment: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Look, judge, show, exit.  Raises Misused for options that make no sense."""
    with _progress():
        facts = _look(environment, arguments)
    findings = _with_spelling(judge(facts), environment if _inside(environment, arguments) else {})
    code = exit_code(findings, facts.apis if not isinstance(facts.apis, Unseen) else ())
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(json.dumps(_as_json(findings, code), indent=2) if arguments.json else table(findings, colour=colour))
    sys.stdout.flush()
    sys.exit(code)


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """Some seconds may pass: a person at a terminal is told so."""
    if not sys.stderr.isatty():
        yield
        return
    text = "looking ..."
    print(text, end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(" " * len(text), end="\r", file=sys.stderr, flush=True)


def _with_spelling(findings: tuple[Finding, ...], environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """The findings, and a warning of each variable whose name is almost one of ours."""
    almost = [
        Finding("settings", Weight.WARNING, f"{each.name} {each.REASON}", f"did you mean {each.meant}?")
        for each in misspelt(environment)
    ]
    settings = [each for each in findings if checks.CHECKS[each.check].subject is Subject.CONFIGURATION]
    return (*worst_first([*settings, *almost]), *findings[len(settings) :])  # they come first


# --- looking ---


def _look(environment: Mapping[str, str], arguments: argparse.Namespace) -> Facts:
    inside = _inside(environment, arguments)
    try:
        config = load(environment if inside else without_many(environment))
    except ConfigError as error:
        mistakes = tuple(Wrong(f"{each.name}={each.value!r}", each.remedy) for each in error.mistakes)
        why = Unseen("the configuration is wrong")
        return Facts(mistakes, why, why, why, why, why, why)
    if arguments.pool or arguments.network:
        about = wanted(config, arguments)
        config = dataclasses.replace(
            config,
            pool_id=about.pool_id or next(iter(about.pools), ""),
            cardano_network=about.networks[0] if len(about.networks) == 1 else config.cardano_network,
        )
    with ExitStack() as stack:
        servers = _own_servers(config) if inside else _named_servers(config, arguments, environment, stack)
        return asyncio.run(_facts(config, servers, inside=inside, on_host=bool(arguments.environment_file)))


def _inside(environment: Mapping[str, str], arguments: argparse.Namespace) -> bool:
    """Whether this is the sidecar's container, and no other place was named."""
    if across.names_a_place(arguments):
        return False
    usual = next(Path(each.default) for each in variables() if each.name == "RUN_DIR")
    return any(environment.get(name) for name in _SIGNS) or usual.exists()


def _own_servers(config: Config) -> list[Server]:
    """Those that this pod's workers ask, reached as they reach them."""
    if doctor_pod.elsewhere(config, Worker.ELECTOR, Worker.ARBITER):
        return []
    found = [Server(_place(config, "own", None, "", config.namespace), own=True, coordinates=False, account=True)]
    if not config.enable_cluster_management:
        return found
    if doctor_pod.elsewhere(config, Worker.ARBITER):
        return found
    for each in config.coordination_kubeconfigs:
        mine = each.kubeconfig is None and not each.context and config.coordination_namespace == config.namespace
        if mine:
            found[0] = dataclasses.replace(found[0], coordinates=True)
            continue
        name = f"{each.name} (coordination)" if each.name == found[0].place.name else each.name
        place = _place(config, name, each.kubeconfig, each.context, config.coordination_namespace)
        found.append(Server(place, own=False, coordinates=True, account=True))
    return found


def _place(config: Config, name: str, kubeconfig: Path | None, context: str, namespace: str) -> Place:
    file = kubeconfig or config.kubeconfig
    kubectl = ["--kubeconfig", str(file)] if file is not None else []
    kubectl += ["--context", context] if context else []
    return Place(name, file, context, namespace, tuple(kubectl))


def _named_servers(
    config: Config, arguments: argparse.Namespace, environment: Mapping[str, str], stack: ExitStack
) -> list[Server]:
    """Those that an operator's options or files name: each is a region's own, and of a known pool all coordinate."""
    found = places(config, arguments, environment.get("KUBECONFIG", ""), stack)
    coordinates = bool(config.pool_label) and (len(found) > 1 or config.enable_cluster_management)
    return [Server(place, own=True, coordinates=coordinates, account=False) for place in found]


def _of_the_pool(config: Config) -> bool:
    return bool(config.pool_label) and "LEASE_NAME" not in config.explicit


async def _facts(config: Config, servers: Sequence[Server], *, inside: bool, on_host: bool) -> Facts:
    """All at once; everything that waits has an end.

    on_host: the settings come from a unit's file, so there is no pod around us.
    """
    settings = Settings(
        permissive=config.sandbox == "permissive",
        managed=config.enable_cluster_management,
        times=Timing(config.lease_duration, config.sleep_interval),
        lease=config.lease_name,
        lock=config.pool_lock_name,
        # A Lease that is named after the pool is no other's; a host's name (docs/bare-metal.md) is no StatefulSet's.
        pod=config.pod_name if inside and config.election_label and not _of_the_pool(config) else "",
    )
    asking = asyncio.gather(*(doctor_api.ask(config, server) for server in servers))
    if not inside:
        why = Unseen("this is not the sidecar's container: run it there (kubectl exec)")
        return Facts((), settings, why, why, why, why, tuple(await asking))
    heard = await asyncio.to_thread(doctor_pod.states, config)
    node, credentials, apis = await asyncio.gather(
        doctor_pod.node(config, heard), asyncio.to_thread(doctor_pod.credentials, config, heard), asking
    )
    pod, kernel = doctor_pod.pod(config, heard), doctor_pod.kernel(config)
    unseen = doctor_pod.elsewhere(config, Worker.ELECTOR, Worker.ARBITER)
    return Facts((), settings, pod, kernel, node, credentials, unseen or tuple(apis), on_host)


# --- showing ---


def _as_json(findings: Sequence[Finding], code: int) -> dict[str, Any]:
    return {
        "exit_code": code,
        "counts": {str(weight): sum(each.weight is weight for each in findings) for weight in Weight},
        "findings": [
            {
                "subject": checks.CHECKS[each.check].subject,
                "check": each.check,
                "severity": each.weight,
                "api": each.where or None,
                "reason": each.reason,
                "remedy": each.remedy or None,
                "command": each.command or None,
            }
            for each in findings
        ],
    }


def table(findings: Sequence[Finding], *, colour: bool) -> str:
    """By subject, the remedy below each; what is so for one reason in one line."""
    lines: list[str] = []
    names = max((len(_label(each)) for each in findings), default=0)
    words = max(len(_word(weight)) for weight in Weight)
    for subject, part in groupby(findings, key=lambda each: checks.CHECKS[each.check].subject):
        lines += ["", str(subject)] if lines else [str(subject)]
        for each, others in _together(list(part)):
            word = f"{_word(each.weight):<{words}}"
            word = f"\033[{_COLOURS[each.weight]}m{word}\033[0m" if colour else word
            indent = " " * (words + names + 6)
            if others:
                lines.append(f"  {word}  {printable(', '.join(map(_label, (each, *others))))}")
                lines.append(f"{indent}{printable(each.reason)}")
            else:
                lines.append(f"  {word}  {printable(_label(each)):<{names}}  {printable(each.reason)}")
            lines += [f"{indent}{printable(each.remedy)}"] if each.remedy else []
            lines += [f"{indent}$ {printable(each.command)}"] if each.command else []
    return "\n".join([*lines, "", _summary(findings)])


def _together(part: Sequence[Finding]) -> Iterator[tuple[Finding, tuple[Finding, ...]]]:
    def alike(each: Finding) -> tuple[object, ...]:
        return (each.weight, each.reason, each.remedy) if not each.remedy else (id(each),)

    for _, group in groupby(part, key=alike):
        first, *others = group
        yield first, tuple(others)


def _label(each: Finding) -> str:
    return f"{each.check} @{each.where}" if each.where else each.check


def _word(weight: Weight) -> str:
    return _WORDS.get(weight, str(weight))


def _summary(findings: Sequence[Finding]) -> str:
    count = {weight: sum(each.weight is weight for each in findings) for weight in Weight}
    errors, warnings, skipped = count[Weight.ERROR], count[Weight.WARNING], count[Weight.NOT_LOOKED_AT]
    told = [f"{errors} error{'' if errors == 1 else 's'}", f"{warnings} warning{'' if warnings == 1 else 's'}"]
    return ", ".join([*told, *([f"{skipped} not looked at"] if skipped else [])])
