"""The leader election that the Python client of Kubernetes brings, used as its example does.

It has no release: asked to stop it just ends.  An error of the connection (not of the API) ends it too, and then it is
started anew by whoever runs it.
"""

from __future__ import annotations

from kubernetes import config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from bench.peers.python.belief import LEASE_DURATION_S, RENEW_DEADLINE_S, RETRY_PERIOD_S, Belief


def main() -> None:
    belief = Belief()
    config.load_kube_config(config_file=belief.kubeconfig)
    settings = electionconfig.Config(
        LeaseLock(belief.lease, belief.namespace, belief.name),
        lease_duration=LEASE_DURATION_S,
        renew_deadline=RENEW_DEADLINE_S,
        retry_period=RETRY_PERIOD_S,
        onstarted_leading=lambda: belief.leads(True),
        onstopped_leading=lambda: belief.leads(False),
    )
    while True:
        leaderelection.LeaderElection(settings).run()


if __name__ == "__main__":
    main()
