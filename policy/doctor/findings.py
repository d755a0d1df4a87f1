"""The vocabulary: a finding, how heavy it weighs, and what was not looked at."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace


class Weight(enum.StrEnum):
    """The heaviest first."""

    ERROR = "error"
    """This pod cannot forge so, cannot be fenced so, or the pool may have two forgers."""
    WARNING = "warning"
    NOT_LOOKED_AT = "not-looked-at"
    """It may be right or wrong."""
    INFO = "info"
    """Found as it should be."""


class Subject(enum.StrEnum):
    """In the order in which they are shown."""

    CONFIGURATION = "configuration"
    POD = "pod"
    KERNEL = "kernel"
    NODE = "node"
    CREDENTIALS = "credentials"
    KUBERNETES = "kubernetes"
    COORDINATION = "coordination"


@dataclass(frozen=True, slots=True)
class Unseen:
    """In place of a fact: it was not looked at."""

    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement; nothing in it is secret."""

    check: str
    """Key of `checks.CHECKS`."""
    weight: Weight
    reason: str
    remedy: str = ""
    """What mends it; empty: nothing is to be done."""
    command: str = ""
    """For a shell; empty: there is none."""
    host_remedy: str = ""
    """In place of `remedy` on a host without Kubernetes; empty: that one says it for both."""
    host_command: str = ""
    where: str = ""
    """Which API server; empty: this pod, or all of them."""


def on_host(finding: Finding) -> Finding:
    """What to do about it where no pod is."""
    remedy, command = finding.host_remedy or finding.remedy, finding.host_command or finding.command
    return replace(finding, remedy=remedy, command=command)


def unseen(check: str, fact: Unseen, where: str = "") -> Finding:
    """It was not looked at."""
    return Finding(check, Weight.NOT_LOOKED_AT, fact.why, where=where)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Alike ones in the order in which they came."""
    rank = list(Weight)
    return tuple(sorted(findings, key=lambda finding: rank.index(finding.weight)))
