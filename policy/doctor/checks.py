"""Every check that `forgectl doctor` makes, once: its id, what it looks at, what mends it.  docs/doctor.md is this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ipc.messages import Check as Credential
from policy.doctor.findings import Subject


@dataclass(frozen=True, slots=True)
class Check:
    """One row of docs/doctor.md."""

    subject: Subject
    looks_at: str
    mends: str
    always: bool = True
    """Every report has a word of it; False: only where there is something to say."""


_C, _P, _K, _N = Subject.CONFIGURATION, Subject.POD, Subject.KERNEL, Subject.NODE
_S, _A, _M = Subject.CREDENTIALS, Subject.KUBERNETES, Subject.COORDINATION

CHECKS: Final[dict[str, Check]] = {
    "settings": Check(_C, "every variable, alone and together with the others", "set the variable as the finding says"),
    "sandbox-setting": Check(_C, "whether `SANDBOX` lets workers run that are not locked up", "`SANDBOX=enforce`"),
    "run-dir": Check(
        _P,
        "`RUN_DIR`: is there, a folder, the sidecar's user's or root's, closed to others; its workers' folders are "
        "theirs",
        "mount an emptyDir there that the sidecar's user may write to",
    ),
    "run-dir-memory": Check(_P, "whether `RUN_DIR` is in memory: armed keys lie there", "`emptyDir: {medium: Memory}`"),
    "socket-paths": Check(
        _P, "the length of each Unix socket's path (107 bytes at most, unix(7))", "a shorter `RUN_DIR` or `NODE_SOCKET`"
    ),
    "workers": Check(
        _P,
        "whether each worker answers on its state socket, and whether the API server lets the elector do its work",
        "the log of the worker that does not; `forgectl inspect elector --decisions`",
    ),
    "separation": Check(
        _P,
        "how the workers run (`single-uid`, `uids`, `containers`) against `WORKER_UIDS`; whether each is locked up and "
        "nothing exceeds its declaration",
        "`forgectl audit` shows each deviation",
    ),
    "actuator": Check(_P, "what the actuator itself says: why it would not arm, and what it warns of", "as it says"),
    "notices": Check(
        _P,
        "whether the last notice for `NOTIFY_URL` was taken, as the prober says",
        "the receiver, `NOTIFY_SECRET_FILE`",
    ),
    "gateway-files": Check(
        _P,
        "whether the files of `GATEWAY_TOKEN_FILE` and `GATEWAY_TLS_*_FILE` can be used as they are now; the gateway "
        "goes on with what it read before, but does not start with them",
        "as it says; docs/runbooks/GatewayFileUnusable.md",
    ),
    "kept-out": Check(
        _P,
        "whether somebody keeps this pod from taking over: `stand-down`, `drain`, `pause`",
        "`forgectl come-back`, `forgectl resume`",
    ),
    "landlock": Check(
        _K, "the kernel's Landlock, and what its version cannot take away", "Linux 5.13 or newer, `lsm=`"
    ),
    "seccomp": Check(
        _K, "whether system calls can be filtered on this machine", "a kernel with seccomp, x86_64 or arm64"
    ),
    "pidfd": Check(_K, "whether a process can be held and signalled by pidfd", "Linux 5.3 or newer"),
    "death-timer": Check(
        _K,
        "whether the kernel gives a timer on CLOCK_BOOTTIME that ends a hung actuator",
        "a seccomp profile that lets it",
    ),
    "death-signal": Check(
        _K, "whether the kernel signals the node when the actuator dies (F_SETOWN)", "a seccomp profile that lets it"
    ),
    "freezer": Check(
        _K,
        "whether the container is in a cgroup v1 freezer: frozen there (`docker pause`, `podman pause`) the actuator "
        "cannot be killed, and its node forges on beyond the lease (A4 in safety.md)",
        "cgroup v2, or nothing that freezes it",
    ),
    "clock-rate": Check(
        _K,
        "by how much a time service bends the clock at this moment: rights are counted by it, and the clocks of two "
        "machines may differ by 1 % (A2 in safety.md)",
        "slower corrections (chrony: `maxslewrate 1000`)",
    ),
    "node-socket": Check(
        _N, "whether somebody accepts connections at `NODE_SOCKET`", "start the node, share the volume"
    ),
    "node-process": Check(
        _N, "whether the node's process can be seen, and which it is", "`shareProcessNamespace: true`"
    ),
    "node-user": Check(
        _N,
        "uid, gid and capabilities of node and actuator: whether the kernel lets the one signal the "
        "other, and the other read the files",
        "one `runAsUser` and `runAsGroup` for both containers",
    ),
    "node-arguments": Check(
        _N, "whether the node was given the options for its keys, and the socket's path", "add the options"
    ),
    "node-start": Check(
        _N,
        "whether the node was started as a non-producing one",
        "`--start-as-non-producing-node`",
    ),
    "node-files": Check(
        _N,
        "whether the paths that the node was given lead, in its container, to where the sidecar puts the keys",
        "mount one volume at one path in both containers",
    ),
    "node-metrics": Check(
        _N,
        "whether `NODE_METRICS_URL` answers, with the metrics that prove forging and its end; whether it is the node "
        "that answers",
        "the port of the node's configuration (`hasPrometheus`, `PrometheusSimple`)",
    ),
    "node-tip": Check(
        _N,
        "how far the node's tip is behind the wall clock, against `MAX_TIP_LAG`; ahead of it, it is of another network",
        "let it catch up; the node's network as `CARDANO_NETWORK`",
    ),
    "targets": Check(_S, "the folders of `TARGET_*`: there, and to be written to", "mount the shared volume there"),
    "targets-memory": Check(
        _S,
        "whether the folders of the keys' `TARGET_*` are in memory, with `CREDENTIAL_MODE=file`: the keys lie there",
        "`emptyDir: {medium: Memory}`",
    ),
    "keys": Check(_S, "whether the source files could be examined, and what came of it in all", "`forgectl check`"),
    Credential.KES_KEY: Check(_S, "the KES key's file", "put the key there", always=False),
    Credential.KES_AGENT: Check(_S, "the KES agent's socket", "start the agent, mount its socket", always=False),
    Credential.VRF_KEY: Check(_S, "the VRF key's file", "put the key there", always=False),
    Credential.CERTIFICATE: Check(_S, "the certificate's file", "put the certificate there", always=False),
    Credential.MATCH: Check(
        _S, "whether KES key and certificate belong together", "take both from one rotation", always=False
    ),
    Credential.SIGNATURE: Check(_S, "whether the cold key signed the certificate", "issue it again", always=False),
    Credential.POOL: Check(_S, "whether it is this pool's certificate", "this pool's keys, or `POOL_ID`", always=False),
    Credential.KES_PERIOD: Check(_S, "from when until when the certificate is good", "rotate", always=False),
    Credential.EVOLUTION: Check(_S, "how far the KES key was evolved", "rotate", always=False),
    Credential.COUNTER: Check(
        _S, "the certificate's counter against those that were used", "the newest certificate", always=False
    ),
    Credential.IN_USE: Check(_S, "whether the node uses this certificate", "as the actuator says", always=False),
    Credential.PERMISSIONS: Check(_S, "who else may read the source files", "`chmod 0400`", always=False),
    Credential.COLD_KEY: Check(
        _S, "whether the cold key lies beside the hot ones", "take it off the machine", always=False
    ),
    "kubeconfig": Check(
        _A, "whether it can be known how to reach the API server: kubeconfig, service account", "as the finding says"
    ),
    "api": Check(
        _A, "whether the API server answers, and its version", "its address, network policies, its own health"
    ),
    "api-latency": Check(
        _A,
        "how long several requests take, against the time for which pods wait for an answer",
        "a longer `LEASE_DURATION`, a nearer or healthier API server",
    ),
    "api-clock": Check(
        _A,
        "the server's clock (`Date`) against this machine's; no right depends on it, but overrides and certificates "
        "end by clocks",
        "a time service on both",
    ),
    "rights": Check(_A, "each right that the sidecar needs, by SelfSubjectAccessReview", "apply the Role"),
    "crd-leader": Check(
        _A,
        "whether CardanoLeader is served in `CRD_GROUP`/`CRD_VERSION`, with its fields",
        "`kubectl apply -f deploy/crds`",
    ),
    "lease": Check(
        _A,
        "the cluster's Lease: there, held by whom (by another StatefulSet's pod, which may be another pool's), in this "
        "program's form, with our `LEASE_DURATION`",
        "stop what else contends; a Lease for each pool; one `LEASE_DURATION` for all pods",
    ),
    "crd-cluster": Check(
        _M, "the same of CardanoForgeCluster, on each coordination API", "`kubectl apply -f deploy/crds`"
    ),
    "majority": Check(
        _M,
        "how many coordination APIs there are: an even number bears no more than one less; the pod's own alone is a "
        "lock for one cluster only",
        "three or five",
    ),
    "same-server": Check(_M, "whether two of them are one server (the uid of the namespace)", "name different servers"),
    "pool-lock": Check(_M, "the lock's Lease on each: held by whom, in which form, for how long", "as for `lease`"),
    "member-set": Check(
        _M,
        "whether the lock's holder counts the same coordination APIs",
        'one set everywhere: docs/clusters.md, "Changing the set"',
    ),
}
"""By id, in the order in which they are shown."""


def of(subject: Subject) -> tuple[str, ...]:
    """The ids of one subject of which every report has a word."""
    return tuple(name for name, check in CHECKS.items() if check.subject is subject and check.always)
