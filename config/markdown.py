"""The table of every variable, as README.md and `forgectl config --markdown` have it."""

from __future__ import annotations

from itertools import groupby

from config.variables import variables


def configuration_table() -> str:
    """By group, in Markdown."""
    lines = []
    for group, members in groupby(variables(), key=lambda v: v.group):
        lines += [f"**{group}**", "", "| variable | default | meaning |", "|---|---|---|"]
        lines += [f"| `{v.name}` | `{v.default or '(empty)'}` | {v.help} |" for v in members]
        lines.append("")
    return "\n".join(lines)
