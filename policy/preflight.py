"""Checks made before this pod contends: whether the kernel lets node and actuator work together, and whether the node
was started with the files that the actuator gives and takes.

Source: ptrace_may_access (kernel/ptrace.c) with PTRACE_MODE_READ_FSCREDS decides who may follow /proc/PID/cwd;
kill(2) decides who may signal.  Measured between containers of one pod (docs/safety.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Real, effective and saved ids, and effective capabilities, of a process (/proc/PID/status)."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    capabilities: int
    nested: bool = False
    """In a pid namespace below ours."""


def cannot_work_together(actuator: Identity, node: Identity, *, ephemeral: bool) -> str:
    """Why this actuator could not arm or fence this node; empty: it can."""
    ours, theirs = actuator.uids[1], node.uids[1]
    if set(node.uids[:3]) != {ours}:
        return (
            f"the node runs as uid {theirs}, the sidecar as uid {ours}: the kernel allows neither the signal nor "
            "the files; give both the same user (runAsUser, or User= of both units)"
        )
    if not ephemeral:
        return ""
    if node.nested:
        return (
            "the node has a pid namespace of its own (a container's), in which the sidecar's links lead nowhere; give "
            "both one (docker run --pid=host, shareProcessNamespace: true in a pod), or set CREDENTIAL_MODE=file"
        )
    if set(node.gids[:3]) != {actuator.gids[1]}:
        return (
            f"the node runs with gid {node.gids[1]}, the sidecar with gid {actuator.gids[1]}: the node cannot read "
            "the files; give both the same group (runAsGroup, or Group= of both units)"
        )
    missing = actuator.capabilities & ~node.capabilities
    if missing:
        return (
            f"the sidecar has capabilities that the node lacks (mask {missing:x}): the node cannot read the files; "
            "drop all capabilities of the sidecar"
        )
    return ""


def cannot_be_ended(node_pid: int) -> str:
    """Why this node could not be ended where it does not confirm that it stopped; empty: it can.

    Process 1 of our own pid namespace takes no SIGKILL from within it (pid_namespaces(7)).
    """
    if node_pid != 1:
        return ""
    return (
        "the node is process 1 of its pid namespace: the kernel lets nobody in there kill it, should it not stop "
        "forging; set shareProcessNamespace: true in the pod, or start the node's container with an init (--init)"
    )


def wrong_arguments(given: Mapping[str, str], wanted: Mapping[str, tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """Why this node could never be armed (empty: it can), and what else of its arguments looks wrong.

    `given`: the node's credential options and their values.  `wanted`: option -> (our variable, its path).  The paths
    may differ and be one file, where the volume is mounted elsewhere in the node's container: that is a warning.
    """
    missing = [option for option in wanted if option not in given]
    if missing:
        others = [option for option in given if option not in wanted]
        instead = f" (it has {' and '.join(others)})" if others else ""
        return (
            f"the node was started without {' and '.join(missing)}{instead}: it can never forge with what the sidecar "
            "installs; add them to its arguments, or see CREDENTIAL_MODE"
        ), ()
    return "", tuple(
        f"the node was given {option} {given[option]}, and {variable} is {path}: they must lead to one file; else it "
        "forges with keys that nobody takes away"
        for option, (variable, path) in wanted.items()
        if given[option] != path
    )
