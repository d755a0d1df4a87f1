"""What the pod shows to the outside: metrics, probes, status.  Read-only, fed by subscriptions alone."""
