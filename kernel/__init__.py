"""Thin, typed adapters to Linux: what the fence and the workers ask of the kernel."""
