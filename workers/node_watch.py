"""The actuator's eyes: which process is our node, is it up, can it take a signal, has it ended.

The node is the process behind NODE_SOCKET (SO_PEERCRED); a name is only a hint until the socket exists.  Once
known it is held by a pidfd: its end is noticed at once, and no signal can go to a process that reused its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Final

from cardano.process import (
    NodeGone,
    NodeProcess,
    ProcessUnreadable,
    check_socket,
    credential_options,
    find_by_name,
    others_hidden,
    read_argv,
    read_status,
    start_flag,
    start_ticks,
    wanted_options,
)
from config import Config
from ipc.complaints import Complaint
from ipc.messages import NodeView, StartFlag
from policy import timing
from policy.preflight import Identity, cannot_be_ended, cannot_work_together, wrong_arguments
from workers.audit_trail import SENT

log = logging.getLogger("actuator")

LOOK_FOR_NODE: Final = timing.SECOND // 4
"""Between searches for a node that is not there, and for the socket of one that is starting."""
FAST_LOOK: Final = timing.SECOND // 10
"""For a node that was started as a producing one: it must be told to stop as soon as it is up."""


class NodeWatch:
    """Follows one node from process to process."""

    def __init__(self, config: Config, wake: Callable[[], None], *, supervisor: int | None) -> None:
        """supervisor: whose children cannot be the node; None: not supervised."""
        self._config = config
        self._supervisor = supervisor
        self._wake = wake
        self._process: NodeProcess | None = None
        self._up = False
        self._takes_hup = False
        self._argv: Sequence[str] = ()
        self._flag = StartFlag.UNKNOWN
        self._problem = self._wrong_arguments = ""
        self.warnings: tuple[str, ...] = ()
        """What of the node's arguments looks wrong."""
        self._look_at = 0
        self._seen_at = 0
        self._unreadable = Complaint(log, "node_unreadable", "a node that cannot be held")
        self._born = start_ticks(os.getpid())
        self.born_after_us = False
        self.hint = ""
        """Why no node can be found, if that is known."""
        self._ended_with = ""
        """What was wrong with the one that ended last: what ends at its start is seen for a moment only."""
        self.unseen = ""
        """The same, where a node runs all the same."""

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def start_ticks(self) -> int:
        """When its process started, in clock ticks since boot; 0: there is none."""
        return self._process.start_ticks if self._process is not None else 0

    @property
    def young_since(self) -> int:
        """When the node's process started, if it is younger than us (CLOCK_BOOTTIME, ns); 0: it is not."""
        return self.start_ticks * timing.SECOND // os.sysconf("SC_CLK_TCK") if self.born_after_us else 0

    @property
    def up(self) -> bool:
        return self._up

    def has_other_keys(self) -> None:
        """It was given other paths than ours, and read nothing there though it works: no fence reaches its keys."""
        if not self._wrong_arguments:
            self._wrong_arguments = f"the node did not read what the sidecar installs: {self.warnings[0]}"
            log.error(self._wrong_arguments, extra={"event": "node_arguments", "node_pid": self.pid})
            self._read_status()

    def view(self) -> NodeView | None:
        """The node as of the last look."""
        process = self._process
        if process is None:
            return None
        return NodeView(process.pid, process.start_ticks, self._up, self._takes_hup, self._flag, self._problem)

    def starting(self) -> bool:
        """Whether a node is expected to come up any moment."""
        return self._process is not None and not self._up

    def starting_for(self, now: int) -> int:
        """ns for which a node process has been there without being up."""
        return now - self._seen_at if self.starting() else 0

    def look(self, now: int) -> None:
        """Notice an end, an appearance, a rise.  Cheap when nothing is due."""
        if self._process is not None and not self._process.alive():
            self._forget("the node process ended")
        if not self._up and now >= self._look_at:
            self._look_at = now + (
                FAST_LOOK if self._flag in (StartFlag.PRODUCING, StartFlag.UNKNOWN) else LOOK_FOR_NODE
            )
            self._search(now)
        if self._process is not None and not self._takes_hup:
            self._read_status()

    def hup_pending(self) -> bool:
        """Whether a SIGHUP waits to be taken by the node."""
        if self._process is None:
            return False
        try:
            return read_status(self._process.pid).sighup_pending
        except (NodeGone, ProcessUnreadable):
            return True  # not known to be taken

    def send(self, sig: signal.Signals) -> str:
        """Signal the node; SENT, or why not: a SIGHUP would end a node without a handler for it.  Raises NodeGone."""
        if self._process is None:
            raise NodeGone("no node")
        if sig is signal.SIGHUP:
            self._read_status()
            if not self._takes_hup:
                return "not sent: the node has no handler for it"
        try:
            self._process.send(sig)
        except PermissionError:
            return "refused by the kernel: " + (self._problem or "another user's process")
        return SENT

    def close(self) -> None:
        if self._process is not None:
            self._forget("stopping")

    # --- finding ---

    def _search(self, now: int) -> None:
        self.hint = self.unseen = ""
        if self._config.disable_socket_check:
            self._search_by_name(now)
            self._up = self._process is not None
            return
        found = check_socket(self._config.node_socket)
        if found.ok and found.pid > 0:
            if self.pid != found.pid:
                self._meet(found.pid, now)
            else:
                self._read_arguments()
            if self._process is not None:
                self._up = True
                self._read_status()
                log.info("the node is up", extra={"event": "node_up", "node_pid": self.pid})
            return
        if found.ok:
            self.hint = self.unseen = (
                "NODE_SOCKET answers, but its process is not visible: set shareProcessNamespace: true in the pod"
            )
        elif self._process is None:
            self._search_by_name(now)
        else:
            self._read_arguments()

    def _search_by_name(self, now: int) -> None:
        name, socket = self._config.cardano_node_process_name, self._config.node_socket
        files = [path for _, path in self._config.targets.values()]
        candidates = find_by_name(name, socket, supervisor=self._supervisor, files=files)
        astray = [candidate for candidate in candidates if candidate.other_socket]
        candidates = [candidate for candidate in candidates if not candidate.other_socket]
        if not candidates and astray:
            self.hint = self.unseen = (
                f"a node (process {astray[0].pid}) was given our files and --socket-path {astray[0].other_socket}: "
                f"NODE_SOCKET, which is {socket}, must be the same"
            )
        if not candidates and not astray and self._ended_with:
            self.hint = f"of the node that ended last: {self._ended_with}"
        elif not candidates and not astray:
            self.hint = others_hidden()
        elif candidates and candidates[0].relay and not self._config.disable_socket_check:
            # Held, it would keep the files from the node that is to be started, and us from seeing that one.
            self.hint = (
                f"a process named {name} ({candidates[0].pid}) was given neither a key nor --socket-path: it is taken "
                "for a relay, unless NODE_SOCKET leads to it"
            )
        elif len(candidates) == 1:
            self._meet(candidates[0].pid, now)
        elif len(candidates) > 1:
            self.hint = (
                f"{len(candidates)} processes are named {self._config.cardano_node_process_name}; waiting for "
                "NODE_SOCKET to tell which is ours"
            )

    def _meet(self, pid: int, now: int) -> None:
        if self._process is not None:
            self._forget("another process serves NODE_SOCKET")
        try:
            process = NodeProcess.open(pid)
            argv = read_argv(pid)
        except (NodeGone, ProcessUnreadable) as error:
            self._unreadable.again(why=str(error), node_pid=pid)
            return
        self._unreadable.over()
        self._process, self._up, self._takes_hup, self._seen_at = process, False, False, now
        self._judge(argv)
        self.born_after_us = process.start_ticks > self._born
        asyncio.get_running_loop().add_reader(process.fileno(), self._wake)
        self._read_status()
        log.info(
            "node process found",
            extra={"event": "node_found", "node_pid": pid, "flag": str(self._flag), "problem": self._problem},
        )

    def _read_arguments(self) -> None:
        """Again, until it is up: a script may have become the node since."""
        assert self._process is not None
        with contextlib.suppress(NodeGone, ProcessUnreadable):  # its end is noticed; what was read stands
            argv = read_argv(self._process.pid)
            if argv != self._argv:
                self._judge(argv)
                facts = {"event": "node_found", "node_pid": self.pid, "flag": str(self._flag)}
                log.info("the node process has other arguments now", extra={**facts, "problem": self._wrong_arguments})

    def _judge(self, argv: Sequence[str]) -> None:
        """What its arguments say."""
        self._argv, self._flag = argv, start_flag(argv)
        self._wrong_arguments, self.warnings = "", ()
        if argv:  # else they cannot be seen
            wanted = wanted_options(self._config.targets.values())
            self._wrong_arguments, self.warnings = wrong_arguments(credential_options(argv), wanted)
            for text in self.warnings:
                log.warning(text, extra={"event": "node_arguments", "node_pid": self.pid})

    def _read_status(self) -> None:
        """Whether it takes a SIGHUP, and whether the kernel lets us work together."""
        if self._process is None:
            return
        try:
            theirs, ours = read_status(self._process.pid), read_status(os.getpid())
        except NodeGone:
            return
        except ProcessUnreadable as error:
            self._problem = str(error)
            return
        self._takes_hup = theirs.sighup_caught
        against = cannot_work_together(
            Identity(ours.uids, ours.gids, ours.cap_eff),
            Identity(theirs.uids, theirs.gids, theirs.cap_eff, theirs.nested and not ours.nested),
            ephemeral=self._config.credential_mode != "file",
        )
        self._problem = against or cannot_be_ended(self._process.pid) or self._wrong_arguments

    def _forget(self, why: str) -> None:
        assert self._process is not None
        asyncio.get_running_loop().remove_reader(self._process.fileno())
        log.warning("%s", why, extra={"event": "node_gone", "why": why, "node_pid": self._process.pid})
        self._process.close()
        self._ended_with = self._problem
        self._process, self._up, self._takes_hup = None, False, False
        self._flag, self._problem, self._look_at = StartFlag.UNKNOWN, "", 0
        self._wrong_arguments, self.warnings = "", ()
