"""Asking an address from outside whether this cluster is well, and how far that may reach."""
