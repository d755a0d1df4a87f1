"""One file per process: what it may do, whom it listens to, its loop."""
