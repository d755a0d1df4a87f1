"""The tables of docs/doctor.md, from the catalogue by which `forgectl doctor` judges, and from the rights."""

from __future__ import annotations

from config import load
from kube import rights
from kube.rights import Right
from policy.doctor.checks import CHECKS
from policy.doctor.findings import Subject

_TENANT = {
    "POOL_ID": "pool1abcd1234567890",
    "CLUSTER_REGION": "us-east-1",
    "ENABLE_CLUSTER_MANAGEMENT": "true",
}
"""The names that the shipped manifests have."""


def tables() -> str:
    """Every check, by subject, in Markdown."""
    return "\n\n".join(
        "\n".join(
            [
                f"### {subject}",
                "",
                "| check | looks at | what mends it |",
                "|---|---|---|",
                *(
                    f"| `{name}` | {check.looks_at} | {check.mends} |"
                    for name, check in CHECKS.items()
                    if check.subject is subject
                ),
            ]
        )
        for subject in Subject
    )


def needed() -> str:
    """Every right, in Markdown."""
    alone = load({}, hostname=lambda: "pod-0")
    pool = load(_TENANT, hostname=lambda: "pod-0")
    columns = (rights.of_pod(alone), rights.of_pod(pool), rights.of_coordination(pool))
    lines = ["| right | pod without `POOL_ID` | pod with | coordination API |", "|---|---|---|---|"]
    lines += [
        f"| {_words(each)} | " + " | ".join("yes" if each in column else "" for column in columns) + " |"
        for each in sorted(columns[0].union(*columns))
    ]
    return "\n".join(lines)


def _words(right: Right) -> str:
    of = f" `{right.name}`" if right.name else ""
    group = f" ({right.group})" if right.group else ""
    return f"{right.verb} `{right.resource}`{of}{group}"
