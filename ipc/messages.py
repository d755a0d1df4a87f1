"""Every word that crosses a socket between workers, once, typed.

All instants are CLOCK_BOOTTIME nanoseconds of this host.  A state is what a worker knows *now*; it carries
`valid_until`, past which it means nothing.  No message but `StandDown` and `DebugRequest` asks anybody for anything,
and none carries key material.  `decode` promises: a value of exactly the declared types, or `ProtocolError`.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Union

import msgpack

PROTOCOL: Final = 6
"""Raised when a message changes its shape: an old tool never talks to a new worker by accident."""

MAX_FRAME: Final = 64 * 1024
"""Bytes of one frame's payload.  The largest honest state is a few KiB."""

_MAX_ITEMS: Final = 256
_MAX_TEXT: Final = 4096
"""Bytes of one text.  Longer ones are cut when sent: some (a Lease's holder) were written by strangers."""


class ProtocolError(ValueError):
    """A frame that is not exactly one message of the declared type.  Never shows what it carried."""


class Worker(enum.StrEnum):
    PROBER = "prober"
    ELECTOR = "elector"
    ARBITER = "arbiter"
    ACTUATOR = "actuator"
    GATEWAY = "gateway"


class Role(enum.StrEnum):
    """The elector's part in the election."""

    OBSERVER = "observer"
    """Watches, does not contend (node unfit, actuator not ready, standing down)."""
    STANDBY = "standby"
    """Contends: takes the lease as soon as it is free."""
    LEADER = "leader"
    HANDOVER = "handover"
    """Still holds the lease, has withdrawn the grant, waits for the fence before it releases."""


class Fence(enum.StrEnum):
    """What the actuator knows of its node's forging."""

    FENCED = "fenced"
    """Proven (see `Proof`) not to forge."""
    ARMING = "arming"
    """Keys exposed and node told; not yet confirmed by the node."""
    ARMED = "armed"
    FENCING = "fencing"
    """Keys gone and node told (or state unknown after a start); not yet confirmed."""


class Proof(enum.StrEnum):
    """Why a node is believed not to forge, strongest first."""

    NODE_GONE = "node-gone"
    METRICS = "metrics"
    """forging_enabled went to 0 in a sample asked for after the node took the signal."""
    FLAT = "flat"
    """The count of leadership checks stood still for three slots."""
    NOT_STARTED = "not-started"
    """The node was started as non-producing (or is still replaying) and was never armed by us."""
    SETTLED = "settled"
    """The node took the signal and offers no metrics: believed after a pause (assumption A3)."""
    NONE = "none"


class Startup(enum.StrEnum):
    """Whether the node may be started: answered by /startup-status."""

    PREPARING = "preparing"
    OFFERED = "offered"
    """The bootstrap files are there: the node may start."""
    READ = "read"
    """The node has read them (or needs none); they are gone again."""
    UP = "up"
    FAILED = "failed"


class StartFlag(enum.StrEnum):
    """How the node was started, read from its arguments."""

    NON_PRODUCING = "non-producing"
    PRODUCING = "producing"
    """Without the flag: it forges from bootstrap files as soon as it is up.  Reported loudly."""
    NO_CREDENTIALS = "no-credentials"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Grant:
    """A right to forge until `deadline` (hard: the kernel enforces it)."""

    holder: str
    fencing_token: int
    deadline: int
    renewed_at: int
    """When the request that earned it was sent."""
    exclusive: bool
    """Whether nobody else can hold one of the same issuer at the same time."""


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One look at the node's own metrics."""

    node_pid: int
    """Process behind the socket when asked; 0: unknown."""
    asked_at: int
    answered_at: int
    answered: bool
    forging_enabled: int | None
    about_to_lead: int | None
    slot: int | None
    epoch: int | None
    remaining_kes_periods: int | None
    kes_start: int | None = None
    """First KES period of the certificate that the node has in use, as it says."""
    adopted: int | None = None
    """Blocks that it made and took into its own chain since it started."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What the prober shall ask for this cluster's health; an empty endpoint: nothing."""

    endpoint: str = ""
    interval_s: float = 30.0
    timeout_s: float = 10.0
    threshold: int = 3
    """Failures in a row from which on the cluster counts as unhealthy."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Sent with each request; never shown, logged or counted."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What came of the checks of one endpoint so far."""

    endpoint: str
    """As it was asked for: a report about another one says nothing."""
    healthy: bool
    """Fewer failures in a row than the threshold; true before the first check."""
    consecutive_failures: int
    checked_at: int
    """End of the last check; 0: none yet."""
    response_s: float | None
    """None: no answer."""
    message: str


@dataclass(frozen=True, slots=True)
class Notifications:
    """What became of the notices for NOTIFY_URL, since the prober's process started."""

    sent_total: int
    failed_total: int
    """Attempts to send one that came to nothing; most of them are repeated."""
    dropped_total: int
    """Notices that nobody will get: refused by the receiver, too old, too many, or the worker's own fault."""
    queued: int
    """That wait to be sent."""
    problem: str = ""
    """Why the last attempt came to nothing; empty: it did not."""


@dataclass(frozen=True, slots=True)
class ProberState:
    fit: bool
    since: int
    """Since when `fit` has had this value."""
    reasons: tuple[str, ...]
    """Why not fit; empty when fit."""
    sample: NodeSample | None
    """The latest look, answered or not."""
    sampled_total: int
    tip_lag_s: float | None
    aliases: tuple[str, ...]
    """`meaning=metric name` pairs found in the node's metrics."""
    health: HealthReport | None = None
    """None: no endpoint is to be asked."""
    quiet_at: int = 0
    """From then on the pool has no slot for a while, by its leadership schedule; 0: now, or there is no schedule.

    For hand-overs that can wait (`policy.quiet`); as of this state.
    """
    leads_at: int = 0
    """Its next assigned slot begins; 0: none is known."""
    schedule_problem: str = ""
    """Why the leadership schedule says nothing; empty: it does, or there is none."""
    notifications: Notifications | None = None
    """None: NOTIFY_URL is not set."""


@dataclass(frozen=True, slots=True)
class CertificateCounter:
    """The counter of an operational certificate with which a block was made."""

    counter: int
    pool_id: str
    """bech32; empty: of whichever pool forges here."""


@dataclass(frozen=True, slots=True)
class ElectorState:
    role: Role
    since: int
    reason: str
    identity: str
    lease: str
    holder: str
    """Who holds the lease as last observed; empty: nobody."""
    fencing_token: int
    grant: Grant | None
    settled: bool
    """False right after a start: whether an earlier life's lease goes on is not known yet, and `grant` says nothing."""
    changes_total: int
    """Times this pod became or ceased to be leader."""
    requests_total: dict[str, int]
    """API requests by verb."""
    failures_total: int
    api_ok: bool
    standing_down_until: int
    """0: not standing down."""
    letting_go: str = ""
    """It wants to release the lease: the arbiter's half of the seal in it; empty: it does not."""
    unsure_until: int = 0
    """Until then it would not take the lease even if its holder released it now; 0: it would."""
    degraded: bool = False
    """The API server is out of reach, and we held the lease when it was heard last: no grant of ours is exclusive."""
    counter_recorded: CertificateCounter | None = None
    """Of the certificates with which this cluster's blocks were made: the highest counter, as the Lease has it."""
    holder_until: int = 0
    """When the holder's lease runs out unless it is renewed, as seen from here; 0: there is no holder."""
    other_seen_at: int = 0
    """The last sign here of a holder that is not this pod: it renewed, or released; 0: there was none."""
    renewal_margin: int | None = None
    """ns that were left of the right when it was last renewed; None: this term was not renewed yet."""
    drained: str = ""
    """Why it stands down until further notice; empty: it does not."""
    paused: str = ""
    """Until when, and why, the lease stays with the pod that has it (`policy.pause`); empty: nothing is paused."""


class LockPhase(enum.StrEnum):
    """How the pool-wide lock stands to this pod."""

    IDLE = "idle"
    ACQUIRING = "acquiring"
    HELD = "held"
    """A majority of the coordination APIs confirmed it, or did so last."""
    DRAINING = "draining"
    """To be released: no grant is given, the fence is awaited."""


@dataclass(frozen=True, slots=True)
class LockMember:
    """One coordination API."""

    name: str
    api_ok: bool
    crd_ok: bool
    """It serves CardanoForgeClusters."""
    holder: str
    """Of the pool's Lease there; empty: nobody, or not known."""
    ours_until: int
    """End of the right that this member confirmed; 0: none."""
    problem: str = ""
    """Why it does not answer, or not as it should; empty: it does."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster of the pool, as this arbiter judges it."""

    name: str
    region: str
    state: str
    """Effective: Enabled, Disabled or Priority-based."""
    priority: int
    """Effective: lower wins."""
    eligible: bool
    why_not: str
    leader: str
    changed_at: int
    """When its status was last seen to change; 0: it is ours."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """What the arbiter knows of the pool; of cluster management only."""

    lock: str
    """The pool-wide Lease, as namespace/name."""
    phase: LockPhase
    holder: str
    """Cluster that holds the lock, as a majority says; empty: nobody, or not known."""
    sibling: str
    """Who holds it, if that is another pod of our own cluster; else empty."""
    fencing_token: int
    """Of the lock; rises with each new holder."""
    members: tuple[LockMember, ...]
    majority: int
    cluster: str
    """Name of our CardanoForgeCluster."""
    wanted: str
    """Cluster that should forge; empty: none can."""
    why: str
    state: str
    """Ours, effective."""
    priority: int
    """Ours, effective."""
    conflict: bool
    """More than one cluster is Enabled."""
    clusters: tuple[ClusterView, ...]
    """In the order of preference."""
    objection: str = ""
    """Why no majority of the members means anything: not all pods of the pool count the same ones.  Empty: they do."""
    paused: str = ""
    """Until when, and why, the lock stays with the cluster that has it (`policy.pause`); empty: nothing is paused."""
    override: str = ""
    """State or priority that an operator's override forces upon our cluster, and why; empty: none does."""


@dataclass(frozen=True, slots=True)
class ArbiterState:
    grant: Grant | None
    reason: str
    cluster_management: bool
    willing: bool = False
    """A term that began now, with this challenge, would be countersigned."""
    challenge: str = ""
    """For the elector to write into the Lease: proof that it wrote after `challenged_at`."""
    challenged_at: int = 0
    renew_after: int = 0
    """The elector shall renew at once if it last wrote a challenge of this instant or earlier; 0: no need."""
    half: str = ""
    """For the elector to write into the Lease: the arbiter's half of the seal."""
    giving_up: str = ""
    """The half of the term in which nothing is granted any more; empty: none."""
    given_away: str = ""
    """What opens the arbiter's half of the last term that was given up: the elector may release it."""
    unsure_until: int = 0
    """Until then it would not countersign even if the lease's holder released it now; 0: it would."""
    withdrawn: int = 0
    """Counts the grants of the pool-wide lock that were taken back; the actuator repeats it while it has none."""
    health_check: HealthCheck = HealthCheck()
    pool: PoolState | None = None
    requests_total: dict[str, int] = dataclasses.field(default_factory=dict)
    """API requests by verb."""
    failures_total: int = 0
    api_ok: bool = False
    counter_recorded: CertificateCounter | None = None
    """Of the certificates with which the pool's blocks were made: the highest counter, as its clusters say."""
    other_seen_at: int = 0
    """The last sign here of a holder of the pool-wide lock that is not this pod; 0: there was none."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node as the actuator sees it."""

    pid: int
    start_ticks: int
    up: bool
    """It owns NODE_SOCKET (or the socket check is disabled)."""
    takes_hup: bool
    flag: StartFlag
    problem: str
    """Why it could not be armed (uid, gid, ...); empty: it can."""


class Severity(enum.StrEnum):
    ERROR = "error"
    """With these credentials the node cannot forge, or not for this pool."""
    WARNING = "warning"
    INFO = "info"


class Check(enum.StrEnum):
    """What was looked at in the credentials; a label of cardano_credential_findings."""

    KES_KEY = "kes-key"
    KES_AGENT = "kes-agent"
    VRF_KEY = "vrf-key"
    CERTIFICATE = "certificate"
    MATCH = "match"
    SIGNATURE = "signature"
    POOL = "pool"
    KES_PERIOD = "kes-period"
    EVOLUTION = "evolution"
    COUNTER = "counter"
    IN_USE = "in-use"
    PERMISSIONS = "permissions"
    COLD_KEY = "cold-key"


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement of the keys and the certificate that the node forges with; neither text has anything secret."""

    check: Check
    severity: Severity
    reason: str
    remedy: str = ""
    """What mends it, a command where there is one; empty: nothing is to be done."""


@dataclass(frozen=True, slots=True)
class CertificateView:
    """The operational certificate in the source folder."""

    pool_id: str
    counter: int
    kes_period: int
    """The first in which it is good."""
    periods_left: int | None
    """KES periods, the running one counted; 0 and less: expired.  None: no calendar of this network is known."""
    expires_at: float | None
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class ActuatorState:
    fence: Fence
    since: int
    proof: Proof
    reason: str
    ready: bool
    """Could arm at once if both grants came."""
    refusals: tuple[str, ...]
    """Why not ready; empty when ready."""
    warnings: tuple[str, ...]
    node: NodeView | None
    node_gone_at: int
    """When the last node process was seen to end; 0: never."""
    startup: Startup
    startup_reason: str
    mode: str
    """ephemeral, kes-agent or file."""
    deadline: int
    """Hard end of the right we are armed under; 0: not armed."""
    sighups_total: dict[str, int]
    operations_total: dict[str, int]
    """`operation/file` -> count."""
    kills_total: dict[str, int]
    void_before: int = 0
    """Grants renewed at or before this instant count for nothing (the wall clock jumped); their givers renew now."""
    heard_giving_up: str = ""
    """`giving_up` of the arbiter's state that was heard last, which holds no grant then."""
    heard_withdrawn: int = 0
    """`withdrawn` of the arbiter's state that was heard last, if it holds no grant; 0: it holds one."""
    findings: tuple[Finding, ...] = ()
    """In the source credentials, the worst first."""
    certificate: CertificateView | None = None
    """None: it cannot be read."""
    counter_used: CertificateCounter | None = None
    """The highest with which this node made a block that it adopted; None: not seen yet."""


@dataclass(frozen=True, slots=True)
class GatewayState:
    port: int
    requests_total: dict[str, int]


Body = ProberState | ElectorState | ArbiterState | ActuatorState | GatewayState

_NO_NEWS: Final = frozenset({"holder_until", "other_seen_at"})
"""What changes with each renewal by somebody else: it goes with the next frame and needs none of its own."""


def news(old: Body | None, new: Body) -> bool:
    """Whether subscribers must hear of it at once."""
    if old is None or type(old) is not type(new):
        return True
    names = (f.name for f in dataclasses.fields(new) if f.name not in _NO_NEWS)
    return old != new and any(getattr(old, name) != getattr(new, name) for name in names)


BODIES: Final[dict[Worker, type[Body]]] = {
    Worker.PROBER: ProberState,
    Worker.ELECTOR: ElectorState,
    Worker.ARBITER: ArbiterState,
    Worker.ACTUATOR: ActuatorState,
    Worker.GATEWAY: GatewayState,
}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How far the sender is locked up, in its own words; `forgectl audit` checks them against the kernel's."""

    closed: bool = False
    """As declared.  False only with SANDBOX=permissive."""
    separation: str = ""
    """single-uid, uids or containers."""
    missing: tuple[str, ...] = ()
    """What this kernel cannot take away, or (permissive) what could not be closed."""
    violations: tuple[str, ...] = ()
    """What its last attempts got beyond its declaration."""
    audited_at: int = 0
    """When the attempts were made last; 0: not yet."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the sender's process costs, by its own account: nobody else may look into it."""

    measured_at: int = 0
    """0: not yet."""
    cpu_ns: int = 0
    """CPU time of all its threads since it started."""
    memory_bytes: int = 0
    """PSS; 0: the kernel does not tell."""
    open_files: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """One frame of a state subscription."""

    worker: Worker
    instance: str
    """Random at each start of the worker's process."""
    pid: int
    sequence: int
    started_at: int
    sent_at: int
    valid_until: int
    body: Body
    sandbox: Sandbox = Sandbox()
    cost: Cost = Cost()


@dataclass(frozen=True, slots=True)
class StandDown:
    """The only command: leave the election for `seconds` (0: come back now; None: until further notice)."""

    seconds: float | None
    reason: str
    at_once: bool = False
    """Not only in a gap of the leadership schedule."""


@dataclass(frozen=True, slots=True)
class StandDownReply:
    accepted: bool
    message: str


# --- debug: one question, one answer (ipc/debug.py) ---


class DebugWhat(enum.StrEnum):
    """What a worker can be asked over its debug socket, and (`DEBUG_REPLIES`) the kind of the answer."""

    STATE = "state"
    DECISIONS = "decisions"
    SUBSCRIPTIONS = "subscriptions"
    COUNTERS = "counters"
    TASKS = "tasks"
    LOG_LEVEL = "log_level"
    """The argument DEBUG, INFO, WARNING or ERROR sets it until the worker ends; an empty one only asks."""
    AUDIT = "audit"
    """It tries now what it must not be able to do; takes up to some seconds."""


@dataclass(frozen=True, slots=True)
class DebugRequest:
    """The question.  But for `log_level`, asking changes nothing."""

    what: DebugWhat
    argument: str = ""


@dataclass(frozen=True, slots=True)
class DebugRefusal:
    """Instead of the answer: why there is none."""

    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Something the worker did or noticed: a line of its log, INFO or above, shown there or not."""

    at: int
    level: str
    event: str
    message: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class DebugDecisions:
    decisions: tuple[Decision, ...]
    """The latest, oldest first."""
    cut: int
    """Older ones that are kept but did not fit into the frame."""


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """One worker that this one follows."""

    worker: Worker
    connected: bool
    age_ns: int
    """Since its last state was sent; -1: none was ever received."""
    errors_total: int
    """Connections ended because it broke the protocol."""


@dataclass(frozen=True, slots=True)
class SubscriberView:
    """One process that follows this worker."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class DebugSubscriptions:
    subscriptions: tuple[SubscriptionView, ...]
    subscribers: tuple[SubscriberView, ...]


@dataclass(frozen=True, slots=True)
class DebugCounters:
    """Since the start of the worker's process."""

    frames_sent: int
    """Over the state socket, to all subscribers together."""
    subscribers_refused: int
    protocol_errors: int
    """By those it follows, its subscribers, and whoever used its debug socket."""
    debug_requests: int
    debug_refused: int
    """Connections to the debug socket that were not let in."""
    log_lines: dict[str, int]
    """By level; shown or not.  DEBUG counts only while it is shown."""


@dataclass(frozen=True, slots=True)
class TaskView:
    name: str
    stack: tuple[str, ...]
    """`file:line:function`, outermost first; no values."""


@dataclass(frozen=True, slots=True)
class DebugTasks:
    tasks: tuple[TaskView, ...]
    cut: int
    """Tasks that did not fit into the frame."""


@dataclass(frozen=True, slots=True)
class DebugLogLevel:
    level: str
    """In effect now."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One thing that was tried, or looked at, against the declaration."""

    check: str
    expected: str
    got: str
    verdict: str
    """ok; exceeds (beyond the declaration); lacks (declared, but refused); excused (this kernel cannot refuse it);
    unclear (the answer says neither)."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process as the kernel describes it (proc_pid_status(5), getrlimit(2)), whoever read it there."""

    pid: int
    uids: tuple[int, ...]
    """Real, effective, saved, file system."""
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    cap_inheritable: int
    cap_permitted: int
    cap_effective: int
    cap_bounding: int
    cap_ambient: int
    no_new_privs: int
    seccomp: int
    """2: filtered."""
    seccomp_filters: int
    """-1: this kernel does not tell."""
    threads: int
    dumpable: int
    """0 or 1; -1: not to be told from where it was read."""
    core_limit: int
    """Bytes; -1: none."""
    memlock_limit: int
    """Bytes; -1: none."""
    files: tuple[str, ...] | None
    """`number target` of each open file; sockets with family, type and addresses where those are known.
    None: not to be read from where the rest was."""
    mounts: tuple[str, ...]
    """Mount points that it sees."""


@dataclass(frozen=True, slots=True)
class DebugAudit:
    """What a worker got when it tried, and what it sees of itself."""

    separation: str
    permissive: bool
    view: ProcessView
    files: tuple[AuditRow, ...]
    processes: tuple[AuditRow, ...]
    calls: tuple[AuditRow, ...]
    network: tuple[AuditRow, ...]
    itself: tuple[AuditRow, ...]
    """What `view` and the closing of the sandbox say."""
    took_ns: int
    longest_ns: int
    """The longest time for which its event loop stood still for it."""


DebugReply = (
    State | DebugDecisions | DebugSubscriptions | DebugCounters | DebugTasks | DebugLogLevel | DebugAudit | DebugRefusal
)

DEBUG_REPLIES: Final[dict[DebugWhat, type[DebugReply]]] = {
    DebugWhat.STATE: State,
    DebugWhat.DECISIONS: DebugDecisions,
    DebugWhat.SUBSCRIPTIONS: DebugSubscriptions,
    DebugWhat.COUNTERS: DebugCounters,
    DebugWhat.TASKS: DebugTasks,
    DebugWhat.LOG_LEVEL: DebugLogLevel,
    DebugWhat.AUDIT: DebugAudit,
}


T = TypeVar("T")


def encode(message: Any) -> bytes:
    """The payload of one frame.  Raises ProtocolError when it would exceed MAX_FRAME, or a number 64 bits."""
    try:
        raw: bytes = msgpack.packb([PROTOCOL, type(message).__name__, _plain(message)])
    except OverflowError:
        raise ProtocolError(f"a {type(message).__name__} with a number beyond 64 bits") from None
    if len(raw) > MAX_FRAME:
        raise ProtocolError(f"a {type(message).__name__} of {len(raw)} bytes exceeds {MAX_FRAME}")
    return raw


def decode(payload: bytes, expected: type[T]) -> T:
    """The message of type `expected` in a payload.  Raises ProtocolError for anything else."""
    return typing.cast("T", _decode_one_of(payload, (expected,)))


def decode_debug_reply(payload: bytes, what: DebugWhat) -> DebugReply:
    """The answer to that very question, or its refusal.  Raises ProtocolError."""
    return typing.cast("DebugReply", _decode_one_of(payload, (DEBUG_REPLIES[what], DebugRefusal)))


def _decode_one_of(payload: bytes, expected: tuple[type, ...]) -> Any:
    if len(payload) > MAX_FRAME:
        raise ProtocolError("frame too large")
    try:
        raw = msgpack.unpackb(
            payload,
            use_list=False,
            strict_map_key=True,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_str_len=_MAX_TEXT,
            max_bin_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not a msgpack frame ({type(error).__name__})") from None
    if not isinstance(raw, tuple) or len(raw) != 3:
        raise ProtocolError("a frame is [protocol, kind, body]")
    if type(raw[0]) is not int or raw[0] != PROTOCOL:
        raise ProtocolError(f"protocol {PROTOCOL} expected")
    for kind in expected:
        if raw[1] == kind.__name__:
            return _build(kind, raw[2], kind.__name__)
    raise ProtocolError(f"{expected[0].__name__} expected")


def decode_state(payload: bytes, worker: Worker) -> State:
    """A state of that very worker.  Raises ProtocolError."""
    state = decode(payload, State)
    if state.worker is not worker or not isinstance(state.body, BODIES[worker]):
        raise ProtocolError(f"a state of the {worker} expected")
    return state


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        body = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"": type(value).__name__, **body} if isinstance(value, Body) else body
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isascii()):
        return value.encode("utf-8", "replace")[:_MAX_TEXT].decode("utf-8", "ignore")
    return value


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _build(kind: Any, raw: Any, where: str) -> Any:  # one case per kind of type
    if kind is bool or kind is int or kind is str:
        if type(raw) is not kind:
            raise ProtocolError(f"{where}: {kind.__name__} expected")
        return raw
    if kind is float:
        if type(raw) not in (int, float) or not math.isfinite(raw):
            raise ProtocolError(f"{where}: finite float expected")
        return float(raw)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(raw if type(raw) is str else "")  # its refusal writes out what it is given, however deep
        except ValueError:
            raise ProtocolError(f"{where}: not a {kind.__name__}") from None
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, raw, where)
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _build_union(typing.get_args(kind), raw, where)
    if origin is tuple:
        if not isinstance(raw, tuple):
            raise ProtocolError(f"{where}: list expected")
        item = typing.get_args(kind)[0]
        return tuple(_build(item, value, f"{where}[]") for value in raw)
    if origin is dict:
        if not isinstance(raw, dict):
            raise ProtocolError(f"{where}: map expected")
        of_key, of_value = typing.get_args(kind)
        return {_build(of_key, k, f"{where} key"): _build(of_value, v, f"{where}{{}}") for k, v in raw.items()}
    raise AssertionError(f"{where}: no rule for {kind}")


def _build_dataclass(kind: type, raw: Any, where: str) -> Any:
    if not isinstance(raw, dict):
        raise ProtocolError(f"{where}: map expected")
    wanted = _fields(kind)
    if kind in BODIES.values():
        if raw.get("") != kind.__name__:
            raise ProtocolError(f"{where}: {kind.__name__} expected")
        raw = {k: v for k, v in raw.items() if k != ""}
    if raw.keys() != wanted.keys():
        raise ProtocolError(f"{where}: unknown or missing fields")
    return kind(**{name: _build(hint, raw[name], f"{where}.{name}") for name, hint in wanted.items()})


def _build_union(choices: tuple[Any, ...], raw: Any, where: str) -> Any:
    if types.NoneType in choices:
        if raw is None:
            return None
        choices = tuple(c for c in choices if c is not types.NoneType)
    if len(choices) == 1:
        return _build(choices[0], raw, where)
    name = raw.get("") if isinstance(raw, dict) else None
    for choice in choices:
        if choice.__name__ == name:
            return _build(choice, raw, where)
    raise ProtocolError(f"{where}: none of the known kinds")
