"""The actuator's hands: source credentials, target paths, and the stage between them.

`ephemeral`: target paths are links to /proc/<our pid>/cwd/<name>; exposing and withdrawing all three files is one
chdir, and our death withdraws them (`kernel.cwdstage`).  `file`: plain files (`kernel.plainstage`).
Contents are read when they changed, to be examined, and when they are to be exposed, into memory that is locked, and
zeroed afterwards (`kernel.secretmem`); nothing here keeps, logs or raises them.  What is exposed is what was examined:
the very bytes, so never the key of one rotation with the certificate of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cardano.credentials import MOST_BYTES, CredentialSet, Faulty, KesAgent, Source, credential_set
from cardano.opcert import OperationalCertificate
from config import Config
from ipc.messages import CertificateCounter, CertificateView, Check, Finding, NodeSample, Severity
from kernel import inotify
from kernel.clock import boottime_ns
from kernel.cwdstage import Stage, earlier_process
from kernel.inotify import Inotify
from kernel.plainstage import PlainStage
from kernel.process import filesystem_is_memory, filesystem_may_hang
from kernel.secretmem import Content, SecretBuffer, read_secret
from kernel.small_file import cannot_be_read
from policy import timing
from policy.certificate_counter import concerns
from policy.credential_findings import UNUSABLE, Expected, examine, expires_at, periods_left, worst_first
from policy.in_use import InUse
from workers.audit_trail import DONE, AuditTrail, Operation

log = logging.getLogger("actuator")

_NOT_LOCKED: Final = (
    "keys cannot be locked into memory while they are copied and may be written to swap: raise the memlock limit "
    f"(RLIMIT_MEMLOCK) to {4 * MOST_BYTES // 1024} KiB"
)
_FAR: Final = 10**9
"""KES periods; more are as good as none."""
LOOK_EVERY: Final = 2 * timing.SECOND
"""Also where inotify tells of changes: it does not of what happens behind a link, or on another machine's disk."""
ROOM: Final = 64 * 1024
"""Bytes that are left for a set: three small files, each in pages of its own."""
_SOURCE_EVENTS: Final = (
    inotify.IN_CLOSE_WRITE | inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO
)
_TARGET_EVENTS: Final = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO


_Print = tuple[int, ...]
"""What tells one file from another, and from what it was before: device, inode, size, times of change."""


class CannotExpose(Exception):  # noqa: N818  # a refusal, named as such
    """The credentials could not be installed; the text names the file and the remedy, never content."""


class Credentials:
    """Three files: where they come from, where the node looks for them, whether it may see them."""

    def __init__(self, config: Config, wake: Callable[[], None], trail: AuditTrail | None = None) -> None:
        self._config = config
        self._trail = trail or AuditTrail()
        self._sources = {name: path for name, (_, path) in config.sources.items()}
        self._agent = config.source_kes_agent_socket if config.kes_agent else None
        self._found: CredentialSet | None = None
        self._prints: tuple[_Print, ...] | None = None
        """Of the sources when they were examined."""
        self.findings: tuple[Finding, ...] = ()
        self.certificate: CertificateView | None = None
        self.unfit: tuple[str, ...] = ()
        """Why a node that could start with them could not forge with them now."""
        self._installed: CredentialSet | None = None
        """What a node was armed with."""
        self._replaced = False
        """In place of another one, with which it forged."""
        self.rotated = False
        """The sources hold another set by now, with which a node could forge."""
        self.spent = ""
        """Why what a node was armed with is of no use any more."""
        self._in_use = InUse()
        self._counters: tuple[CertificateCounter, ...] = ()
        """With which blocks were made, as far as it is known here."""
        self._said: list[tuple[str, str]] = []
        self._targets = {name: path for name, (_, path) in config.targets.items()}
        self._wake = wake
        self.operations: Counter[str] = Counter()
        self.sources_problem = "not looked at yet"
        self.targets_problem = "not looked at yet"
        self._warnings: tuple[str, ...] = ()
        self._root = config.worker_dir("actuator") / "keys"
        self._stage: Stage | None = None
        self._plain: PlainStage | None = None
        if config.credential_mode == "file":
            self._plain = PlainStage(self._targets)
            if self._plain.found:
                why = "they stood there until now: its node may have forged all the while"
                self._trail.earlier_life(0, self._plain.found, why)
            self._warnings = (
                "CREDENTIAL_MODE=file: if this process is killed the keys stay where they are and the node goes on "
                "forging until the sidecar is back",
            )
        else:
            predecessor = earlier_process(self._targets)
            self._stage = Stage(self._root)
            if predecessor or self._stage.found:
                why = "the paths to them ended with it, and the kernel told the node that it had armed"
                self._trail.earlier_life(predecessor, self._stage.found, why if self._stage.found else "")
            if not filesystem_is_memory(self._root):
                self._warnings = (f"{self._root} is not in memory: armed keys are written to a disk",)
        self._warnings += self._may_hang()
        with SecretBuffer(1) as probe:
            self._locked = probe.locked
        self._events = Inotify()
        self._watched: dict[Path, int] = {}
        self._watched_sources: dict[Path, int] = {}
        self._set_watch = -1
        self._unread: set[str] = set()
        self._exposed = False
        self._exposed_at = 0
        self._look_at = 0
        asyncio.get_running_loop().add_reader(self._events.fileno(), self._on_events)

    def _may_hang(self) -> tuple[str, ...]:
        """Folders on which this process could wait beyond the reach of its own timer, which is a SIGKILL."""
        found = []
        folders = {path.parent: name for name, path in (*self._config.sources.values(), *self._config.targets.values())}
        for folder, variable in sorted(folders.items()):
            with contextlib.suppress(OSError):  # not there: a finding of its own
                if kind := filesystem_may_hang(folder):
                    found.append(
                        f"{variable}: {folder} is of {kind}: while that does not answer, not even the kernel's timer "
                        "ends this process, and its node forges on; copy the keys to a file system of this machine (a "
                        "Kubernetes Secret is one)"
                    )
        return tuple(found)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._events.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be promised here, and what would mend it."""
        return self._warnings if self._locked else (*self._warnings, _NOT_LOCKED)

    # --- what others tell ---

    def hear_counters(self, lease: CertificateCounter | None, statuses: CertificateCounter | None = None) -> None:
        """Certificate counters that blocks were made with, as far as those say who keep a record."""
        self._in_use.look_at_record(lease)
        recorded = tuple(each for each in (lease, statuses) if each is not None)
        used = (self._in_use.counter_used,) if self._in_use.counter_used is not None else ()
        if (*recorded, *used) != self._counters:
            self._counters, self._look_at = (*recorded, *used), 0

    def hear_node(self, now: int, sample: NodeSample | None, *, forging: bool) -> None:
        """The node's own metrics; `forging`: it confirmed that it forges with what was installed."""
        used = self._installed.certificate if self._installed is not None and forging else None
        certificate = used if isinstance(used, OperationalCertificate) else None
        self._in_use.look(now, sample, certificate, replaced=self._replaced)

    @property
    def counter_used(self) -> CertificateCounter | None:
        """The highest with which the node made a block that it adopted."""
        return self._in_use.counter_used

    # --- looking ---

    def look(self, now: int) -> None:
        """Check sources and targets, repair the targets; often enough without an event, at once after one."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        self._watch_sources()
        self._examine()
        self.targets_problem = self._own_targets() or self._no_room()

    def _watch_sources(self) -> None:
        """Kubernetes swaps the `..data` link in the mount's folder; a file may be written, or moved there."""
        for folder in {path.parent for path in self._sources.values()} - self._watched_sources.keys():
            try:
                number = self._events.watch(folder, _SOURCE_EVENTS | inotify.IN_MASK_ADD)
            except OSError:
                continue  # what is wrong with it is a finding; it is looked at all the same
            self._watched_sources[folder] = number

    def _examine(self) -> None:
        """Judge the sources, which are read only if they changed: time alone makes a good set a bad one."""
        before = self._look_at_sources()
        if before != self._prints or self._faulty:
            with ExitStack() as secrets:
                found = self._parsed(self._read_sources(secrets))
            if self._look_at_sources() != before:  # in the middle of a rotation
                self._look_at = 0
            self._found, self._prints = found, before
        assert self._found is not None
        expected = self._expected(self._found)
        older = self._older()
        in_use = (self._in_use.finding,) if self._in_use.finding is not None else ()
        self.findings = findings = worst_first((*examine(self._found, expected), *self._permissions(), *older, *in_use))
        self.sources_problem = _unusable(findings)
        self.rotated = self._installed not in (None, self._found) and not _error(findings) and not older
        errors = [one for one in findings if one.severity is Severity.ERROR and one.check not in UNUSABLE]
        self.unfit = tuple(one.reason for one in errors)
        self.certificate = _view(self._found.certificate, expected)
        self.spent = self._spent(expected)
        self._tell()

    def _spent(self, expected: Expected) -> str:
        """Time makes a good certificate a bad one; a node that is armed with it would sign blocks in vain."""
        used = self._installed.certificate if self._installed is not None else None
        if not isinstance(used, OperationalCertificate):
            return ""
        left = periods_left(used, expected)
        return "the certificate that the node forges with has expired" if left is not None and left <= 0 else ""

    def _permissions(self) -> tuple[Finding, ...]:
        """Source keys that everybody in this container could read, or others change."""
        findings = []
        for (name, (variable, path)), seen in zip(self._config.sources.items(), self._prints or (), strict=False):
            if name == "node.cert" or len(seen) == 1:  # public; not there, which is a finding of its own
                continue
            mode = stat.S_IMODE(seen[2]) & 0o777
            if mode & 0o007 or mode & 0o020:
                reason = (
                    f"{variable} {path} can be read or changed by others than its owner and group (mode {mode:04o})"
                )
                remedy = "set defaultMode: 0440 and fsGroup where the secret is mounted; chmod 0400 where it is a file"
                findings.append(Finding(Check.PERMISSIONS, Severity.WARNING, reason, remedy))
        return tuple(findings)

    def _older(self) -> tuple[Finding, ...]:
        """Whether a secret that was put back is about to replace what a node forges with."""
        used = self._installed.certificate if self._installed is not None else None
        found = self._found.certificate if self._found is not None else None
        if not isinstance(used, OperationalCertificate) or not isinstance(found, OperationalCertificate):
            return ()
        if found.cold_key != used.cold_key or found.counter >= used.counter:
            return ()
        reason = (
            f"the certificate's counter is {found.counter}, and the node forges with one of {used.counter}: it is not "
            "taken up meanwhile"
        )
        remedy = "put the newest set into the secret; if it is this one, hand over (forgectl stand-down)"
        return (Finding(Check.COUNTER, Severity.WARNING, reason, remedy),)

    @property
    def _faulty(self) -> bool:
        """Whether a file could not be read: it may be now, though it looks the same."""
        found = self._found
        return found is not None and Faulty in map(type, (found.kes, found.vrf, found.certificate))

    def _look_at_sources(self) -> tuple[_Print, ...]:
        paths = (*self._sources.values(), *([self._agent] if self._agent is not None else ()))
        return tuple(_print_of(path) for path in paths)

    def _parsed(self, sources: Mapping[str, Source]) -> CredentialSet:
        kes = KesAgent(self._agent_problem(self._agent)) if self._agent is not None else sources["kes.skey"]
        return credential_set(kes, sources["vrf.skey"], sources["node.cert"])

    @staticmethod
    def _agent_problem(path: Path) -> str:
        """Why no node could get its KES key there."""
        try:
            is_socket = stat.S_ISSOCK(path.stat().st_mode)
        except OSError as error:
            return f"SOURCE_KES_AGENT_SOCKET {path} cannot be reached: {error.strerror}"
        return "" if is_socket else f"SOURCE_KES_AGENT_SOCKET {path} is not a socket"

    def _read_sources(self, secrets: ExitStack) -> dict[str, Source]:
        """Each with the variable that names it; closed with `secrets`."""
        found, locked = {}, []
        for name, (variable, path) in self._config.sources.items():
            try:
                secret = secrets.enter_context(read_secret(path, MOST_BYTES))
            except OSError as error:
                found[name] = Source(f"{variable} {path}", None, cannot_be_read(error))
            else:
                locked.append(secret.locked)
                found[name] = Source(f"{variable} {path}", secret.view)
        if locked:
            self._locked = all(locked)
        return found

    def _expected(self, found: CredentialSet) -> Expected:
        config, certificate = self._config, found.certificate
        pool = certificate.pool_id if isinstance(certificate, OperationalCertificate) else ""
        counters = (each.counter for each in self._counters if concerns(each, pool))
        return Expected(
            config.cardano_network,
            time.time(),
            config.calendar,
            config.pool_id,
            config.pool_id_hex,
            max(counters, default=None),
            f"lease -n {config.namespace} {config.lease_name}",
        )

    def _tell(self) -> None:
        """Each finding that asks for something, once."""
        asking = [one for one in self.findings if one.severity is not Severity.INFO]
        said = [(str(one.check), one.reason) for one in asking]
        for one in asking:
            if (str(one.check), one.reason) not in self._said:
                level = logging.ERROR if one.severity is Severity.ERROR else logging.WARNING
                facts = {"event": "credential_finding", "check": str(one.check), "remedy": one.remedy}
                log.log(level, one.reason, extra=facts)
        if self._said and not said:
            log.info("nothing is wrong with the credentials any more", extra={"event": "credentials_right"})
        self._said = said

    def _no_room(self) -> str:
        """Why the files could not be written if they were wanted now.  What is exposed already needs no more room."""
        if self._stage is None or self._stage.exposed:
            return ""
        try:
            info = os.statvfs(self._root)
        except OSError as error:
            return f"{self._root}: {error.strerror}"
        if info.f_blocks and info.f_bavail * info.f_frsize < ROOM:  # a tmpfs without a limit has no blocks
            return f"{self._root}: no room for the keys on its file system: make some"
        return ""

    def _own_targets(self) -> str:
        """Make the target paths ours (again); why they are not."""
        for folder in {path.parent for path in self._targets.values()}:
            if folder not in self._watched:
                try:
                    self._watched[folder] = self._events.watch(folder, _TARGET_EVENTS | inotify.IN_CLOSE_NOWRITE)
                except OSError as error:
                    return f"{folder}: {error.strerror}; mount the volume shared with the node there"
        if self._plain is not None:
            return "; ".join(self._plain.problems())
        assert self._stage is not None
        if not self._stage.links_intact(self._targets):
            return ""
        try:
            replaced = self._stage.install_links(self._targets)
        except OSError as error:
            return f"{error.filename}: the target path cannot be made ours: {error.strerror}"
        for name in replaced:
            self.operations[f"repair/{name}"] += 1
            log.warning(
                "something stood at a target path; replaced by our link",
                extra={"event": "target_repaired", "file": name, "path": str(self._targets[name])},
            )
        return "; ".join(self._stage.links_intact(self._targets))

    def _on_events(self) -> None:
        folders, sources = set(self._watched.values()), set(self._watched_sources.values())
        names = {path.name: name for name, path in self._targets.items()}
        for event in self._events.read():
            if event.mask & inotify.IN_CLOSE_NOWRITE:
                if event.watch == self._set_watch:
                    self._unread.discard(event.name)
                elif self._plain is not None and event.name in names:
                    self._unread.discard(names[event.name])
            elif event.mask & inotify.IN_Q_OVERFLOW or (event.watch in folders and event.name in names):
                self._look_at = 0
            elif event.mask & inotify.IN_IGNORED and event.watch in folders | sources:
                self._watched = {k: v for k, v in self._watched.items() if v != event.watch}
                self._watched_sources = {k: v for k, v in self._watched_sources.items() if v != event.watch}
                self._look_at = 0
            elif event.mask & _SOURCE_EVENTS and event.watch in sources:
                self._look_at = 0
        if self._look_at == 0 or (self._exposed and not self._unread):
            self._wake()

    @property
    def read_by_node(self) -> bool:
        """Whether all three files have been opened and closed since they were exposed."""
        return self._exposed and not self._unread

    @property
    def unread_since(self) -> int:
        """Since when the files are exposed and not all of them were read (CLOCK_BOOTTIME, ns); 0: it is not so."""
        if self._exposed:
            self._on_events()  # they may have been a moment ago
        return self._exposed_at if self._exposed and self._unread else 0

    # --- exposing and withdrawing ---

    def expose(self, why: str) -> None:
        """Read the sources and make them visible at the targets, in place of what is.

        Raises CannotExpose; then what was visible still is.
        """
        operation = Operation.REPLACE if self._installed is not None else Operation.INSTALL
        operation = Operation.OFFER if why == "bootstrap" else operation
        with ExitStack() as secrets:
            sources = self._read_sources(secrets)
            found = self._parsed(sources)
            findings = examine(found, self._expected(found))
            # A node that is to start may do so with keys that are not good now; one that is to forge must not be told.
            if problem := _unusable(findings) or (why != "bootstrap" and _error(findings)):
                self._look_at = 0
                self._note(operation, why, found, f"refused: {problem}")
                raise CannotExpose(problem)
            try:
                self._put({name: each.content for name, each in sources.items() if each.content is not None})
            except OSError as error:
                self._look_at = 0
                problem = f"{error.filename}: {error.strerror}"
                self._note(operation, why, found, f"failed: {problem}")
                raise CannotExpose(problem) from None
        self._exposed, self._unread, self._exposed_at = True, set(self._sources), boottime_ns()
        self._replaced = self._installed is not None and why != "bootstrap"
        self._installed, self.rotated, self.spent = (None if why == "bootstrap" else found), False, ""
        for name in self._sources:
            self.operations[f"install/{name}"] += 1
        self._note(operation, why, found)

    def _note(self, operation: Operation, why: str, found: CredentialSet | None, outcome: str = DONE) -> None:
        """For the audit trail: names, and what is public of the certificate."""
        certificate = found.certificate if found is not None else None
        known = certificate if isinstance(certificate, OperationalCertificate) else None
        self._trail.operation(
            operation,
            tuple(self._targets),
            why,
            outcome=outcome,
            counter=known.counter if known is not None else None,
            kes_period=known.kes_period if known is not None else None,
        )

    def _put(self, files: Mapping[str, Content]) -> None:
        if self._plain is not None:
            self._plain.expose(self._plain.prepare(files))
            return
        assert self._stage is not None
        prepared = self._stage.prepare(files, {"kes-agent.socket": self._agent} if self._agent is not None else {})
        self._set_watch = self._events.watch(prepared.path, inotify.IN_CLOSE_NOWRITE)
        self._stage.expose(prepared)

    def withdraw(self, why: str) -> None:
        """Make the target paths cease to exist.  What could not be cleaned up afterwards is in the audit trail."""
        installed = self._installed
        was, self._exposed, self._unread, self._set_watch = self._exposed, False, set(), -1
        self._installed, self.rotated, self.spent, self._replaced = None, False, "", False
        stage = self._plain if self._plain is not None else self._stage
        assert stage is not None
        problems = stage.withdraw()
        if was or problems:
            outcome = f"left behind: {'; '.join(problems)}" if problems else DONE
            self._note(Operation.REMOVE if installed is not None else Operation.WITHDRAW, why, installed, outcome)
        if was:
            for name in self._sources:
                self.operations[f"remove/{name}"] += 1


def _print_of(path: Path) -> _Print:
    """Of what a path leads to; of an error its number."""
    try:
        info = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return info.st_dev, info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _error(findings: tuple[Finding, ...]) -> str:
    return next((one.reason for one in findings if one.severity is Severity.ERROR), "")


def _unusable(findings: tuple[Finding, ...]) -> str:
    return _error(tuple(one for one in findings if one.check in UNUSABLE))


def _view(certificate: OperationalCertificate | Faulty, expected: Expected) -> CertificateView | None:
    if isinstance(certificate, Faulty):
        return None
    left = periods_left(certificate, expected)
    return CertificateView(
        pool_id=certificate.pool_id,
        counter=certificate.counter,
        kes_period=certificate.kes_period,
        periods_left=None if left is None else max(-_FAR, min(left, _FAR)),
        expires_at=expires_at(certificate, expected),
    )
