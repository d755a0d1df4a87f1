"""What a chart renders: manifests for the tests, and for deploy/kustomize."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from devkit.helm.build import build

Json = dict[str, Any]

RELEASE: Final = "cardano-producer"
NAMESPACE: Final = "cardano-mainnet"


class Refused(Exception):  # noqa: N818  # an outcome
    """Helm rendered nothing; the text is what it said."""


def text(chart: Path, *files: Path, settings: Json | None = None, arguments: tuple[str, ...] = ()) -> str:
    """What `helm template` prints.  settings: values, on top of the files'.  Raises Refused, BuildError."""
    command = [str(build()), "template", RELEASE, str(chart), "--namespace", NAMESPACE, *arguments]
    for file in files:
        command += ["--values", str(file)]
    if settings is not None:
        command += ["--values", "-"]
    done = subprocess.run(command, input=json.dumps(settings or {}), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


def render(chart: Path, *files: Path, settings: Json | None = None, arguments: tuple[str, ...] = ()) -> list[Json]:
    """Its objects.  Raises Refused, BuildError."""
    printed = text(chart, *files, settings=settings, arguments=arguments)
    return [document for document in yaml.safe_load_all(printed) if document]
