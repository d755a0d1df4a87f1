"""What is read back from a ledger, where anything may stand.  Pure."""

from __future__ import annotations


def whole(value: object, most: int) -> int:
    """A whole number from 0 to `most`.  Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"a whole number from 0 to {most} is expected")
    return value
