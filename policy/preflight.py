"""Checks made before this pod contends.  Here: whether the kernel will let node and actuator work together.

Source: ptrace_may_access (kernel/ptrace.c) with PTRACE_MODE_READ_FSCREDS decides who may follow /proc/PID/cwd;
kill(2) decides who may signal.  Measured between containers of one pod (docs/safety.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Real, effective and saved ids, and effective capabilities, of a process (/proc/PID/status)."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    capabilities: int


def cannot_work_together(actuator: Identity, node: Identity, *, ephemeral: bool) -> str:
    """Why this actuator could not arm or fence this node; empty: it can."""
    ours, theirs = actuator.uids[1], node.uids[1]
    if set(node.uids[:3]) != {ours}:
        return (
            f"the node runs as uid {theirs}, the sidecar as uid {ours}: the kernel allows neither the signal nor "
            "the files; give both containers the same runAsUser"
        )
    if not ephemeral:
        return ""
    if set(node.gids[:3]) != {actuator.gids[1]}:
        return (
            f"the node runs with gid {node.gids[1]}, the sidecar with gid {actuator.gids[1]}: the node cannot read "
            "the files; give both containers the same runAsGroup"
        )
    missing = actuator.capabilities & ~node.capabilities
    if missing:
        return (
            f"the sidecar has capabilities that the node lacks (mask {missing:x}): the node cannot read the files; "
            "drop all capabilities of the sidecar"
        )
    return ""
