"""An operator of kopf that pauses while a peer of a higher priority lives: kopf's peering.

Leading is that its one daemon runs: kopf stops daemons when it pauses and starts them when it resumes.  The daemon is
about the Lease `work`, which nobody else writes.  Each instance has a priority of its own (the number at the end of its
name, the first the highest): with the same one all of them would pause.
"""

from __future__ import annotations

import os
from typing import Any

import kopf

from bench.peers.python.belief import LEASE_DURATION_S, Belief

HIGHEST = 1000


def main() -> None:
    belief = Belief()
    os.environ["KUBECONFIG"] = belief.kubeconfig
    settings = kopf.OperatorSettings()
    settings.peering.name = belief.lease
    settings.peering.priority = HIGHEST - int(belief.name.rpartition("-")[2])
    settings.peering.lifetime = LEASE_DURATION_S
    settings.peering.mandatory = True
    settings.posting.enabled = False

    async def lead(stopped: Any, **_: Any) -> None:
        belief.leads(True)
        try:
            await stopped.wait()
        finally:
            belief.leads(False)

    kopf.on.login()(kopf.login_with_kubeconfig)
    kopf.daemon("leases.coordination.k8s.io", field="metadata.name", value="work")(lead)
    kopf.run(settings=settings, namespaces=[belief.namespace], identity=belief.name)


if __name__ == "__main__":
    main()
