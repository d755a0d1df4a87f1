"""The actuator's hands: source credentials, target paths, and the stage between them.

`ephemeral`: target paths are links to /proc/<our pid>/cwd/<name>; exposing and withdrawing all three files is one
chdir, and our death withdraws them (`kernel.cwdstage`).  `file`: plain files (`kernel.plainstage`).
Contents are read when they changed, to be examined, and when they are to be exposed, into memory that is locked, and
zeroed afterwards (`kernel.secretmem`); nothing here keeps, logs or raises them.  What is exposed is what was examined:
the very bytes, so never the key of one rotation with the certificate of another.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cardano.credentials import MOST_BYTES, CredentialSet, Faulty, Source, credential_set
from cardano.opcert import OperationalCertificate
from config import Config
from ipc.messages import CertificateView, Check, Finding, Severity
from kernel import inotify
from kernel.cwdstage import Stage
from kernel.inotify import Inotify
from kernel.plainstage import PlainStage
from kernel.process import filesystem_is_memory
from kernel.secretmem import Content, SecretBuffer, read_secret
from policy import timing
from policy.credential_findings import UNUSABLE, Expected, examine, expires_at, periods_left, worst_first

log = logging.getLogger("actuator")

_NOT_LOCKED: Final = (
    "keys cannot be locked into memory while they are copied and may be written to swap: raise the memlock limit "
    f"(RLIMIT_MEMLOCK) to {4 * MOST_BYTES // 1024} KiB"
)
_VARIABLES: Final = ("SOURCE_KES_KEY", "SOURCE_VRF_KEY", "SOURCE_OP_CERT")
_FAR: Final = 10**9
"""KES periods; more are as good as none."""
LOOK_EVERY: Final = 2 * timing.SECOND
_TARGET_EVENTS: Final = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO


_Print = tuple[int, ...]
"""What tells one file from another, and from what it was before: device, inode, size, times of change."""


class CannotExpose(Exception):  # noqa: N818  # a refusal, named as such
    """The credentials could not be installed; the text names the file and the remedy, never content."""


class Credentials:
    """Three files: where they come from, where the node looks for them, whether it may see them."""

    def __init__(self, config: Config, wake: Callable[[], None]) -> None:
        self._config = config
        self._sources = {
            "kes.skey": config.source_kes_key,
            "vrf.skey": config.source_vrf_key,
            "node.cert": config.source_op_cert,
        }
        self._found: CredentialSet | None = None
        self._prints: tuple[_Print, ...] | None = None
        """Of the sources when they were examined."""
        self.findings: tuple[Finding, ...] = ()
        self.certificate: CertificateView | None = None
        self.unfit: tuple[str, ...] = ()
        """Why a node that could start with them could not forge with them now."""
        self._installed: CredentialSet | None = None
        """What a node was armed with."""
        self.rotated = False
        """The sources hold another set by now, with which a node could forge."""
        self._said: list[tuple[str, str]] = []
        self._targets = {
            "kes.skey": config.target_kes_key,
            "vrf.skey": config.target_vrf_key,
            "node.cert": config.target_op_cert,
        }
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
            self._warnings = (
                "CREDENTIAL_MODE=file: if this process is killed the keys stay where they are and the node goes on "
                "forging until the sidecar is back",
            )
        else:
            self._stage = Stage(self._root)
            if not filesystem_is_memory(self._root):
                self._warnings = (f"{self._root} is not in memory: armed keys are written to a disk",)
        with SecretBuffer(1) as probe:
            self._locked = probe.locked
        self._events = Inotify()
        self._watched: dict[Path, int] = {}
        self._set_watch = -1
        self._unread: set[str] = set()
        self._exposed = False
        self._look_at = 0
        asyncio.get_running_loop().add_reader(self._events.fileno(), self._on_events)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._events.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be promised here, and what would mend it."""
        return self._warnings if self._locked else (*self._warnings, _NOT_LOCKED)

    # --- looking ---

    def look(self, now: int) -> None:
        """Check sources and targets, repair the targets; often enough without an event, at once after one."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        self._examine()
        self.targets_problem = self._own_targets()

    def _examine(self) -> None:
        """Judge the sources, which are read only if they changed: time alone makes a good set a bad one."""
        before = self._look_at_sources()
        if before != self._prints or self._faulty:
            with ExitStack() as secrets:
                found = credential_set(*self._read_sources(secrets))
            if self._look_at_sources() != before:  # in the middle of a rotation
                self._look_at = 0
            self._found, self._prints = found, before
        assert self._found is not None
        expected = self._expected()
        older = self._older()
        self.findings = findings = worst_first((*examine(self._found, expected), *older))
        self.sources_problem = _unusable(findings)
        self.rotated = self._installed not in (None, self._found) and not _error(findings) and not older
        errors = [one for one in findings if one.severity is Severity.ERROR and one.check not in UNUSABLE]
        self.unfit = tuple(one.reason for one in errors)
        self.certificate = _view(self._found.certificate, expected)
        self._tell()

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
        return tuple(_print_of(path) for path in self._sources.values())

    def _read_sources(self, secrets: ExitStack) -> list[Source]:
        """Each with the variable that names it; closed with `secrets`."""
        found, locked = [], []
        for variable, path in zip(_VARIABLES, self._sources.values(), strict=True):
            try:
                secret = secrets.enter_context(read_secret(path, MOST_BYTES))
            except OSError as error:
                remedy = (
                    "set fsGroup or defaultMode" if error.errno == errno.EACCES else "check the secret and its mount"
                )
                found.append(Source(f"{variable} {path}", None, f"cannot be read: {error.strerror}; {remedy}"))
            else:
                locked.append(secret.locked)
                found.append(Source(f"{variable} {path}", secret.view))
        if locked:
            self._locked = all(locked)
        return found

    def _expected(self) -> Expected:
        config = self._config
        return Expected(config.cardano_network, time.time(), config.pool_id, config.pool_id_hex)

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
        folders = set(self._watched.values())
        names = {path.name: name for name, path in self._targets.items()}
        for event in self._events.read():
            if event.mask & inotify.IN_CLOSE_NOWRITE:
                if event.watch == self._set_watch:
                    self._unread.discard(event.name)
                elif self._plain is not None and event.name in names:
                    self._unread.discard(names[event.name])
            elif event.mask & inotify.IN_Q_OVERFLOW or (event.watch in folders and event.name in names):
                self._look_at = 0
            elif event.mask & inotify.IN_IGNORED and event.watch in folders:
                self._watched = {k: v for k, v in self._watched.items() if v != event.watch}
                self._look_at = 0
        if self._look_at == 0 or (self._exposed and not self._unread):
            self._wake()

    @property
    def read_by_node(self) -> bool:
        """Whether all three files have been opened and closed since they were exposed."""
        return self._exposed and not self._unread

    # --- exposing and withdrawing ---

    def expose(self, why: str) -> None:
        """Read the sources and make them visible at the targets, in place of what is.

        Raises CannotExpose; then what was visible still is.
        """
        with ExitStack() as secrets:
            sources = self._read_sources(secrets)
            found = credential_set(*sources)
            findings = examine(found, self._expected())
            # A node that is to start may do so with keys that are not good now; one that is to forge must not be told.
            if problem := _unusable(findings) or (why != "bootstrap" and _error(findings)):
                self._look_at = 0
                raise CannotExpose(problem)
            try:
                named = zip(self._sources, sources, strict=True)
                self._put({name: source.content for name, source in named if source.content is not None})
            except OSError as error:
                self._look_at = 0
                raise CannotExpose(f"{error.filename}: {error.strerror}") from None
        self._exposed, self._unread = True, set(self._sources)
        self._installed, self.rotated = (None if why == "bootstrap" else found), False
        for name in self._sources:
            self.operations[f"install/{name}"] += 1
        log.info("credentials installed", extra={"event": "credentials_installed", "why": why})

    def _put(self, files: Mapping[str, Content]) -> None:
        if self._plain is not None:
            self._plain.expose(self._plain.prepare(files))
            return
        assert self._stage is not None
        prepared = self._stage.prepare(files)
        self._set_watch = self._events.watch(prepared.path, inotify.IN_CLOSE_NOWRITE)
        self._stage.expose(prepared)

    def withdraw(self, why: str) -> None:
        """Make the target paths cease to exist.  What could not be cleaned up afterwards is logged."""
        was, self._exposed, self._unread, self._set_watch = self._exposed, False, set(), -1
        self._installed, self.rotated = None, False
        stage = self._plain if self._plain is not None else self._stage
        assert stage is not None
        for problem in stage.withdraw():
            log.error("after withdrawing", extra={"event": "withdraw_problem", "why": problem})
        if was:
            for name in self._sources:
                self.operations[f"remove/{name}"] += 1
            log.info("credentials removed", extra={"event": "credentials_removed", "why": why})


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
