"""The actuator's hands: source credentials, target paths, and the stage between them.

`ephemeral`: target paths are links to /proc/<our pid>/cwd/<name>; exposing and withdrawing all three files is one
chdir, and our death withdraws them (`kernel.cwdstage`).  `file`: plain files (`kernel.plainstage`).
Contents are read when they are to be exposed, into memory that is locked, and zeroed afterwards (`kernel.secretmem`);
nothing here keeps, logs or raises them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from config import Config
from kernel import inotify
from kernel.cwdstage import Stage
from kernel.inotify import Inotify
from kernel.plainstage import PlainStage
from kernel.process import filesystem_is_memory
from kernel.secretmem import Content, SecretBuffer, read_secret
from policy import timing

log = logging.getLogger("actuator")

MOST_BYTES: Final = 64 * 1024
"""No credential is larger; a larger file is a mistake in the mount."""
_NOT_LOCKED: Final = (
    "keys cannot be locked into memory while they are copied and may be written to swap: raise the memlock limit "
    f"(RLIMIT_MEMLOCK) to {4 * MOST_BYTES // 1024} KiB"
)
LOOK_EVERY: Final = 2 * timing.SECOND
_TARGET_EVENTS: Final = inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO


class CannotExpose(Exception):  # noqa: N818  # a refusal, named as such
    """The credentials could not be installed; the text names the file and the remedy, never content."""


class Credentials:
    """Three files: where they come from, where the node looks for them, whether it may see them."""

    def __init__(self, config: Config, wake: Callable[[], None]) -> None:
        self._sources = {
            "kes.skey": config.source_kes_key,
            "vrf.skey": config.source_vrf_key,
            "node.cert": config.source_op_cert,
        }
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
        self.sources_problem = self._check_sources()
        self.targets_problem = self._own_targets()

    def _check_sources(self) -> str:
        for variable, path in self._named_sources():
            try:
                info = path.stat()
            except OSError as error:
                return f"{variable} {path}: {error.strerror}; check the secret and its mount"
            if not stat.S_ISREG(info.st_mode):
                return f"{variable} {path} is not a file"
            if not 0 < info.st_size <= MOST_BYTES:
                return f"{variable} {path} has {info.st_size} bytes; a credential has 1 to {MOST_BYTES}"
            if not os.access(path, os.R_OK):
                return f"{variable} {path} is not readable for uid {os.getuid()}; set fsGroup or defaultMode"
        return ""

    def _named_sources(self) -> tuple[tuple[str, Path], ...]:
        return (
            ("SOURCE_KES_KEY", self._sources["kes.skey"]),
            ("SOURCE_VRF_KEY", self._sources["vrf.skey"]),
            ("SOURCE_OP_CERT", self._sources["node.cert"]),
        )

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
        """Read the sources and make them visible at the targets.  Raises CannotExpose; then nothing is visible."""
        with ExitStack() as secrets:
            try:
                files = {n: secrets.enter_context(read_secret(p, MOST_BYTES)) for n, p in self._sources.items()}
            except OSError as error:
                self._look_at = 0
                raise CannotExpose(f"{error.filename}: {error.strerror}; check the secret and its mount") from None
            self._locked = all(secret.locked for secret in files.values())
            try:
                self._put({name: secret.view for name, secret in files.items()})
            except OSError as error:
                self._look_at = 0
                raise CannotExpose(f"{error.filename}: {error.strerror}") from None
        self._exposed, self._unread = True, set(self._sources)
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
        stage = self._plain if self._plain is not None else self._stage
        assert stage is not None
        for problem in stage.withdraw():
            log.error("after withdrawing", extra={"event": "withdraw_problem", "why": problem})
        if was:
            for name in self._sources:
                self.operations[f"remove/{name}"] += 1
            log.info("credentials removed", extra={"event": "credentials_removed", "why": why})
