"""All facts to all findings, and the exit code that they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from policy.doctor import checks
from policy.doctor.findings import Finding, Subject, Unseen, Weight, on_host, unseen, worst_first
from policy.doctor.node import CredentialFacts, NodeFacts, judge_credentials, judge_node
from policy.doctor.pod import KernelFacts, PodFacts, judge_kernel, judge_pod, judge_sandbox_setting
from policy.doctor.servers import ApiFacts, Timing, judge_server, judge_set

FINE: Final = 0
WRONG: Final = 1
MISCONFIGURED: Final = 2
NOBODY_ASKED: Final = 3


@dataclass(frozen=True, slots=True)
class Wrong:
    """A mistake in the configuration."""

    text: str
    """Variable and value."""
    remedy: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What the judgements need of the configuration."""

    permissive: bool
    managed: bool
    times: Timing
    lease: str
    lock: str
    pod: str = ""
    """As of `judge_server`."""


@dataclass(frozen=True, slots=True)
class Facts:
    mistakes: tuple[Wrong, ...]
    settings: Settings | Unseen
    pod: PodFacts | Unseen
    kernel: KernelFacts | Unseen
    node: NodeFacts | Unseen
    credentials: CredentialFacts | Unseen
    apis: tuple[ApiFacts, ...] | Unseen
    """Those that coordinate among them, each once."""
    on_host: bool = False
    """The sidecar is a host's service and in no pod: what is to be done is said for that."""


def judge(facts: Facts) -> tuple[Finding, ...]:
    """By subject; of each the worst first.  Every check of `checks.of` is heard of."""
    order = list(checks.CHECKS)
    said = map(on_host, _all(facts)) if facts.on_host else _all(facts)
    found = sorted(said, key=lambda finding: order.index(finding.check))
    by_subject = {subject: [f for f in found if checks.CHECKS[f.check].subject is subject] for subject in Subject}
    return tuple(finding for part in by_subject.values() for finding in worst_first(part))


def _all(facts: Facts) -> Iterator[Finding]:
    yield from _settings(facts)
    permissive = isinstance(facts.settings, Settings) and facts.settings.permissive
    if isinstance(facts.pod, Unseen):
        yield from _none(Subject.POD, facts.pod)
    else:
        yield from judge_pod(facts.pod)
    if isinstance(facts.kernel, Unseen):
        yield from _none(Subject.KERNEL, facts.kernel)
    else:
        yield from judge_kernel(facts.kernel, permissive=permissive)
    if isinstance(facts.node, Unseen):
        yield from _none(Subject.NODE, facts.node)
    else:
        yield from judge_node(facts.node)
    if isinstance(facts.credentials, Unseen):
        yield from _none(Subject.CREDENTIALS, facts.credentials)
    else:
        yield from judge_credentials(facts.credentials)
    yield from _servers(facts)


def _none(subject: Subject, why: Unseen) -> Iterator[Finding]:
    yield from (unseen(check, why) for check in checks.of(subject))


def _settings(facts: Facts) -> Iterator[Finding]:
    for mistake in facts.mistakes:
        yield Finding("settings", Weight.ERROR, mistake.text, mistake.remedy, "forge-manager --check")
    if not facts.mistakes:
        yield Finding("settings", Weight.INFO, "complete and consistent")
    if isinstance(facts.settings, Unseen):
        yield unseen("sandbox-setting", facts.settings)
    else:
        yield judge_sandbox_setting(facts.settings.permissive)


def _servers(facts: Facts) -> Iterator[Finding]:
    settings, apis = facts.settings, facts.apis
    if isinstance(settings, Unseen) or isinstance(apis, Unseen):
        why = settings if isinstance(settings, Unseen) else apis
        for subject in (Subject.KUBERNETES, Subject.COORDINATION):
            yield from _none(subject, why if isinstance(why, Unseen) else Unseen("not known"))
        return
    told = (settings.times, settings.lease, settings.lock, settings.pod)
    found = [f for api in apis for f in judge_server(api, *told)]
    found += judge_set(apis, managed=settings.managed)
    heard = {finding.check for finding in found}
    yield from found
    for subject in (Subject.KUBERNETES, Subject.COORDINATION):
        for check in checks.of(subject):
            if check not in heard:
                yield unseen(check, Unseen("no API server was asked for it"))


def exit_code(findings: Iterable[Finding], apis: Sequence[ApiFacts]) -> int:
    """FINE: warnings are allowed.  NOBODY_ASKED: that no API server answers is all that is wrong.

    MISCONFIGURED: a variable is wrong, or that it is not known how to reach any API server is all that is wrong.
    """
    errors = [finding for finding in findings if finding.weight is Weight.ERROR]
    if not errors:
        return FINE
    wrong = {finding.check for finding in errors}
    if "settings" in wrong:
        return MISCONFIGURED
    if not wrong <= {"kubeconfig", "api"} or any(api.answers for api in apis):
        return WRONG
    return MISCONFIGURED if "kubeconfig" in wrong else NOBODY_ASKED
