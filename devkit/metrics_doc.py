"""The tables of docs/metrics.md, from the catalogue by which the gateway renders."""

from __future__ import annotations

from gateway.catalogue import GROUPS, Described


def tables() -> str:
    """Every metric, by subject, in Markdown."""
    return "\n\n".join(
        "\n".join(
            [f"## {group.title}", "", "| metric | kind | labels | |", "|---|---|---|---|", *map(_row, group.members)]
        )
        for group in GROUPS
    )


def _row(each: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in each.labels)
    left_out = f" Left out {each.left_out}." if each.left_out else ""
    return f"| `{each.name}` | {each.kind} | {labels} | {each.help}.{left_out} |"
