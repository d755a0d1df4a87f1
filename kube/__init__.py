"""The Kubernetes side: one session, the Lease, CardanoLeader's status.  Nothing else talks to an API server."""
