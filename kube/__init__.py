"""The Kubernetes side: one session, the Lease, CardanoLeader's status.  Nothing else talks to an API server."""

from kube import lean as lean  # first: it decides how much of the Kubernetes client is loaded
