"""Writes kubeconfig files.  They are JSON, which is YAML too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o600


def write_kubeconfig(
    path: Path, *, url: str, ca_file: Path | None, token: str | None, user: str, namespace: str = "default"
) -> None:
    """One cluster, one user, one context.  The file holds the user's token: only its owner can read it."""
    cluster: dict[str, str] = {"server": url}
    if ca_file is not None:
        cluster["certificate-authority"] = str(ca_file)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "devkit", "cluster": cluster}],
        "users": [{"name": user, "user": {} if token is None else {"token": token}}],
        "contexts": [{"name": "devkit", "context": {"cluster": "devkit", "user": user, "namespace": namespace}}],
        "current-context": "devkit",
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), _PRIVATE)
        json.dump(content, file, indent=2)
        file.write("\n")
