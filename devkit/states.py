"""States as workers publish them, for tests and measurements: what a case does not name is as of a pod at rest.

Each call makes a state of its own: nothing in one is shared with another.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ipc.messages import ActuatorState, ElectorState, Fence, ProberState, Proof, Role, Startup


def actuator(**changes: Any) -> ActuatorState:
    """Fenced, proven by the node's metrics, and ready to arm."""
    at_rest = ActuatorState(
        fence=Fence.FENCED,
        since=1,
        proof=Proof.METRICS,
        reason="",
        ready=True,
        refusals=(),
        warnings=(),
        node=None,
        node_gone_at=0,
        startup=Startup.UP,
        startup_reason="",
        mode="ephemeral",
        deadline=0,
        sighups_total={},
        operations_total={},
        kills_total={},
    )
    return dataclasses.replace(at_rest, **changes)


def elector(**changes: Any) -> ElectorState:
    """A standby of a lease that nobody holds."""
    at_rest = ElectorState(
        role=Role.STANDBY,
        since=1,
        reason="",
        identity="pod-0_1",
        lease="default/cardano-node-leader",
        holder="",
        fencing_token=1,
        grant=None,
        settled=True,
        changes_total=1,
        requests_total={},
        failures_total=0,
        api_ok=True,
        standing_down_until=0,
    )
    return dataclasses.replace(at_rest, **changes)


def prober(**changes: Any) -> ProberState:
    """Of a node that is fit."""
    at_rest = ProberState(fit=True, since=1, reasons=(), sample=None, sampled_total=1, tip_lag_s=None, aliases=())
    return dataclasses.replace(at_rest, **changes)
