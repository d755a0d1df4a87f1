"""Every event that a line of the log can name, with its meaning and its fields; docs/logs.md is made of it.

A test holds the source against it: nothing logs an event that is not here, or a field that its event does not have,
and nothing is here that nothing logs.  Libraries' own lines have the name of their logger in place of an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALWAYS: Final[dict[str, str]] = {
    "time": "UTC, to the millisecond",
    "level": "DEBUG, INFO, WARNING, ERROR or CRITICAL",
    "worker": "Who says it: a worker, or `manager` (supervisord)",
    "event": "One of the names below",
    "message": "For people, short; it may change from version to version",
    "trace": "Of an exception, where there was one",
    "number": "Of a line of the audit trail: counted in each life of a process; one that is missing was lost",
}
"""What a line of any event has; `trace` and `number` only where there is one."""

FIELDS: Final[dict[str, str]] = {
    "act": "The request that failed: read, create, take, renew, release, watch",
    "at_once": "Whether it does not wait for a gap between the pool's slots",
    "audit": "Always true: the line is of the audit trail, and is written whatever LOG_LEVEL says",
    "check": "What was looked at (the words of `Check` in ipc.md)",
    "cluster": "A CardanoForgeCluster's name",
    "connections": "That this process has already",
    "count": "How many in all",
    "counter": "Of the operational certificate; null: not known",
    "failures": "In a row",
    "file": "Which of the files, by name",
    "files": "Which files, by name; never what is in them",
    "flag": "How the node was started (`StartFlag` in ipc.md)",
    "for_seconds": "For how long; 0: come back; null: until further notice",
    "healthy": "Whether the cluster counts as healthy",
    "holder": "Who holds the Lease as last observed; empty: nobody",
    "id": "Of a notice, the same in each attempt to send it",
    "kept": "The coordination API whose spec is kept",
    "kes_period": "The first in which the operational certificate is good; null: not known",
    "kind": "Of failure: unreachable, timeout, forbidden and so on",
    "lines": "How many lines",
    "meant": "The variable that it is almost",
    "member": "The coordination API, by its name in COORDINATION_KUBECONFIGS",
    "members": "How many there are",
    "new": "The state that it has now",
    "node_pid": "Process id of the node; 0: there is none",
    "of": "At what it had failed",
    "old": "The state that it had; empty: none was known",
    "operation": "install, replace, remove: of keys to forge with; offer, withdraw: of files for a node to start with",
    "outcome": "done or sent; else what went wrong",
    "path": "Of a file or folder",
    "peer": "The worker at the other end",
    "peer_pid": "Process id of the peer; 0: it cannot be seen from here",
    "pid": "A process id; 0: not known, or not to be seen from here",
    "port": "TCP port",
    "priority": "Effective: lower wins",
    "problem": "Why it could not be armed; empty: it can",
    "proof": "What proves that the node does not forge (`Proof` in ipc.md); empty: nothing yet, or it forges",
    "remedy": "What mends it; empty: nothing is to be done",
    "repeated": "So many more like it had no line of their own since the last one",
    "right_lasts": "Seconds until the right to forge ends, unless it is renewed; null: there is none",
    "seconds": "How long the old state, or what ended, lasted",
    "settings": "What was set: variable, and the value that counts; of an address its origin, of a file its path",
    "signal": "Its name",
    "start_ticks": "When the process started, in clock ticks since boot (proc(5)): a pid can come twice, both cannot",
    "state": "The state that it has, and had before",
    "to": "node, or the worker's name",
    "token": "Fencing token: of the Lease, or with cluster management of the pool-wide lock; 0: there is none",
    "type": "Of notice (notifications.md)",
    "uid": "User id of the peer, as the kernel says",
    "variable": "The configuration variable that names it",
    "version": "Of this program",
    "what": "The event that it is the end of",
    "why": "The reason, in words",
}
"""What each field means, in whatever event it is."""

_TRANSITION: Final = ("old", "new", "why", "token", "seconds")
_REASON: Final = ("state", "why", "token", "repeated")
_API: Final = ("act", "kind", "why", "repeated")
_END: Final = ("count", "seconds")


@dataclass(frozen=True, slots=True)
class Event:
    meaning: str
    fields: tuple[str, ...] = ()


TRANSITIONS: Final[dict[str, Event]] = {
    "role_changed": Event("The elector's role: observer, standby, leader, handover", (*_TRANSITION, "holder")),
    "fence_changed": Event(
        "What is known of the node's forging: fenced, arming, armed, fencing",
        (*_TRANSITION, "proof", "right_lasts", "node_pid"),
    ),
    "fitness_changed": Event("Whether the node is fit to forge", _TRANSITION),
    "grant_changed": Event("Whether the arbiter grants: granted, nothing", _TRANSITION),
    "lock_phase_changed": Event("How the pool-wide lock stands: idle, acquiring, held, draining", _TRANSITION),
    "cluster_state_changed": Event(
        "What our cluster may do: Enabled, Disabled, Priority-based", (*_TRANSITION, "cluster", "priority")
    ),
    "preferred_changed": Event("Which cluster should forge, as this arbiter judges; none: none can", _TRANSITION),
    "startup_changed": Event("Whether the node may be started: preparing, offered, read, up, failed", _TRANSITION),
    "readiness_changed": Event("Whether the actuator could arm the node at once: ready, not ready", _TRANSITION),
    "role_reason": Event("Another reason for the same role", (*_REASON, "holder")),
    "fence_reason": Event("Another reason for the same fence", (*_REASON, "proof", "right_lasts", "node_pid")),
    "fitness_reason": Event("Other reasons for the same fitness", _REASON),
    "grant_reason": Event("Another reason for the same grant, or for none", _REASON),
}
"""Something that a worker answers for became otherwise."""

AUDIT: Final[dict[str, Event]] = {
    "credential_operation": Event(
        "Something was done with the credential files, or could not be",
        ("audit", "operation", "files", "why", "counter", "kes_period", "token", "outcome", "repeated"),
    ),
    "signal": Event(
        "A signal was sent, or could not be: to the node by the actuator, to a worker by the supervisor",
        ("audit", "signal", "to", "pid", "start_ticks", "why", "token", "outcome", "repeated"),
    ),
    "earlier_life": Event(
        "What a new actuator found of the one before; what the kernel did at its death it could not tell itself",
        ("audit", "pid", "files", "why"),
    ),
    "stand_down": Event(
        "Somebody had this pod stand down, or come back",
        ("audit", "uid", "pid", "for_seconds", "at_once", "why", "token"),
    ),
    "command_refused": Event(
        "A command was not obeyed, or who gave it may not", ("audit", "uid", "pid", "why", "repeated")
    ),
    "log_level": Event("Somebody changed what this worker writes", ("audit", "uid", "pid", "old", "new")),
}
"""The audit trail."""

CONDITIONS: Final[dict[str, Event]] = {
    "api_failed": Event("The pod's own API server does not answer, or not as it should", _API),
    "api_ok": Event("It answers: for the first time, or again", _END),
    "member_failed": Event("A coordination API does not answer, or not as it should", ("member", *_API)),
    "member_ok": Event("It answers again", ("member", *_END)),
    "clusters_failed": Event("The pool's CardanoForgeClusters cannot be read", ("member", "kind", "why", "repeated")),
    "cluster_unwritten": Event("Our CardanoForgeCluster cannot be written", ("member", "kind", "why", "repeated")),
    "status_failed": Event("CardanoLeader cannot be written", ("why", "repeated")),
    "status_ok": Event("It is written again", _END),
    "event_refused": Event("The API server takes no Event of ours", ("why", "repeated")),
    "watch_reopened": Event("A watch that tells nothing was given up for another", ("member", "repeated")),
    "scrape_failed": Event("The node's metrics do not answer", ("why", "repeated")),
    "scrape_ok": Event("They answer", _END),
    "peer_unheard": Event("A worker could not be reached for a second", ("peer", "why", "repeated")),
    "peer_heard": Event("It is heard again", ("peer", *_END)),
    "protocol_error": Event("A worker's state is not one, or not from who it should be", ("peer", "why", "repeated")),
    "subscriber_refused": Event(
        "A connection to a state socket was not let in, or its peer sent something",
        ("uid", "peer_pid", "connections", "repeated"),
    ),
    "debug_refused": Event(
        "A connection to a debug socket was not let in, or asked what is no question",
        ("uid", "pid", "connections", "why", "repeated"),
    ),
    "debug_failed": Event("A fault of this worker's in answering a debug question", ("repeated",)),
    "cannot_accept": Event("Descriptors or memory have run out: connections wait", ("why", "repeated")),
    "connection_failed": Event("A client's bytes were too much for the HTTP library", ("repeated",)),
    "request_failed": Event("A fault of the gateway's in answering a request", ("repeated",)),
    "node_unreadable": Event("A process that seems to be the node cannot be held", ("node_pid", "why", "repeated")),
    "audit_failed": Event("No audit of the sandbox could be made", ("why", "repeated")),
    "wrong_token": Event("Somebody showed the gateway a token that is none", ("count",)),
    "plain_http": Event("Somebody spoke plain HTTP to a port that speaks TLS"),
    "notice_failed": Event("A notice was not sent, or refused; said again when it is for another reason"),
    "notices_arrive": Event("Notices arrive again"),
    "notices_dropped": Event("Notices are given up: too old, or too many wait"),
    "ended": Event(
        "What came again and again is over: it was put right, or did not come for a minute",
        ("what", "of", "audit", "member", "peer", *_END),
    ),
}
"""What happens again and again: its first, then at most a line a minute with `repeated`, then its end."""

OTHERS: Final[dict[str, Event]] = {
    "almost_a_variable": Event(
        "A variable is set that nobody reads: its name is almost one of ours", ("variable", "meant")
    ),
    "already_runs": Event("Another process is this worker already"),
    "api_settings": Event("The API server's address or credentials cannot be read"),
    "actuator_lost": Event("The actuator cannot be kept alive: the container ends", ("why",)),
    "cluster_made": Event("Our CardanoForgeCluster was not there", ("member",)),
    "command_aborted": Event("Who wanted to give a command went away", ("why",)),
    "copied": Event("Another has renewed the Lease in this pod's name and term: its machine was copied while it ran"),
    "crd_missing": Event("CardanoLeader's CRD is not installed, or has no status subresource"),
    "credential_finding": Event("Something is wrong with the source credentials", ("check", "remedy")),
    "credentials_right": Event("Nothing is wrong with them any more"),
    "defaults_not_applied": Event("All fields of our CardanoForgeCluster are others'", ("member",)),
    "edit_set_aside": Event("An edit that did not know of a newer one", ("member", "kept")),
    "even_members": Event("COORDINATION_KUBECONFIGS has an even number of entries", ("members",)),
    "gateway_file_right": Event("A file of the gateway's can be used again"),
    "gateway_file_rotated": Event("The gateway took over a new token, or a new certificate"),
    "gateway_file_unusable": Event("A new one cannot be used: the old one stays in use", ("variable",)),
    "health": Event(
        "The cluster's health checks began to fail, made it unhealthy, or succeed", ("healthy", "failures")
    ),
    "history_went_back": Event("The API server was restored from a backup"),
    "lazy_load": Event("More of the Kubernetes client was loaded than should be needed", ("why",)),
    "leadership_schedule": Event("LEADERSHIP_SCHEDULE was read, or why not", ("why",)),
    "ledger_unreadable": Event("A ledger cannot be read: the gateway counts from zero, the prober tells as a stranger"),
    "ledger_unwritten": Event("The gateway's ledger cannot be written", ("why",)),
    "listening": Event("The gateway serves", ("port",)),
    "log_dropped": Event("Nobody read the log in time", ("lines",)),
    "log_failed": Event("A record that cannot be shown"),
    "member_is_another": Event("Another API server answers than before under this name", ("member",)),
    "member_went_back": Event("A coordination API was restored from a backup", ("member",)),
    "names_replaced": Event(
        "Names are resolved by another file now (resolv.conf, hosts, ...): the worker starts anew", ("path",)
    ),
    "namespace_by_default": Event("Several coordination APIs, and COORDINATION_NAMESPACE is not set"),
    "no_ipv6": Event("The gateway serves IPv4 only", ("why",)),
    "no_ledger": Event("There is no place for the gateway's ledger", ("why",)),
    "no_socket": Event("A worker's sockets cannot be made", ("path", "why")),
    "node_arguments": Event("Something looks wrong in the node's arguments", ("node_pid",)),
    "node_found": Event("A process is taken for the node", ("node_pid", "flag", "problem")),
    "node_gone": Event("It ended, or another serves NODE_SOCKET", ("node_pid", "why")),
    "node_up": Event("The node serves NODE_SOCKET", ("node_pid",)),
    "notice": Event("NOTIFY_URL is to be told of it", ("type", "id")),
    "notices_fault": Event("A fault of ours in telling: no more notices until the prober's next life"),
    "output": Event("What a worker wrote that is no line of ours: Python's last words, mostly"),
    "own_coordination": Event(
        "The pool-wide lock is on this pod's own API server alone: a warning unless COORDINATION_KUBECONFIGS says `own`"
    ),
    "place_appeared": Event("A declared folder is there only now: the worker starts anew", ("path",)),
    "port_taken": Event("METRICS_PORT cannot be used"),
    "privilege_violation": Event("A worker can do what it does not declare", ("count",)),
    "privileges_kept": Event("Nothing beyond the declaration any more"),
    "producing_flag": Event("The node was not started as a non-producing one", ("node_pid", "flag")),
    "release_abandoned": Event("The elector stopped without having released: the Lease runs out"),
    "sandbox_open": Event("The sandbox cannot be closed"),
    "signal_ignored": Event("The supervisor got a signal that means nothing here", ("signal",)),
    "starting": Event("The sidecar starts: its version, and what was set", ("version", "settings")),
    "stays_disabled": Event("Our object was deleted while it said Disabled, and is made so anew", ("member",)),
    "stop_requested": Event("The supervisor was told to stop", ("signal",)),
    "stopped": Event("The supervisor ends"),
    "supervisord": Event("supervisord's own words"),
    "supervisord_fault": Event("A fault in supervisord"),
    "target_repaired": Event("Something stood at a target path; our link replaced it", ("file", "path")),
    "term_unreadable": Event("What an earlier life wrote down cannot be read: it starts as a stranger"),
    "jump_not_kept": Event("That grants from before a jump of the wall clock are void could not be written down"),
    "unfenced_at_exit": Event("The actuator ends, and its node is not proven fenced: the kernel tells it once more"),
    "wall_clock_jumped": Event("What was granted before counts for nothing"),
    "worker_fault": Event("A worker ends because of what it did not foresee"),
    "worker_started": Event("A worker serves its state from here on", ("pid",)),
    "worker_stopped": Event("A worker ends as asked"),
    "wrong_uid": Event("A worker runs as another user than WORKER_UIDS says"),
}

EVENTS: Final[dict[str, Event]] = {**TRANSITIONS, **AUDIT, **CONDITIONS, **OTHERS}
