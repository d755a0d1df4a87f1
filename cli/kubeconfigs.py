"""Kubeconfigs as an operator's machine has them: several files, and users whose credentials come from a program.

`kube.settings` takes one file and refuses programs, since no worker may start one.  Here they are started once, as
kubectl does, and what they answer is handed over in a file that lives in memory.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from cli.asking import Misused

PROGRAM_S: Final = 60.0
"""A program may ask a person something."""
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_KINDS: Final = ("clusters", "contexts", "users")
_INNER_PATHS: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One context that `kube.session.ApiSession` can use."""

    path: Path
    context: str
    """Empty: the current one."""
    namespace: str
    """Of the context; empty: it names none."""


def usual_files(variable: str) -> tuple[Path, ...]:
    """What kubectl would read: the files of KUBECONFIG (`variable`), else ~/.kube/config; empty: neither is there."""
    files = tuple(Path(word) for word in variable.split(os.pathsep) if word)
    if files:
        return files
    usual = Path.home() / ".kube" / "config"
    return (usual,) if usual.is_file() else ()


def prepare(files: Sequence[Path], context: str, stack: ExitStack) -> Prepared:
    """Make `context` (empty: the current one) of these files usable until `stack` is closed.

    Of several files the first that names something counts, and one that is missing is none.  Raises Misused.
    """
    merged = _merge(files)
    current = context or merged["current-context"]
    entry = _entry(merged, "contexts", current, "context")
    namespace = entry.get("namespace")
    namespace = namespace if isinstance(namespace, str) else ""
    user = _entry(merged, "users", entry.get("user"), "user")
    program = user.get("exec")
    if len(files) == 1 and not program:
        return Prepared(files[0], context, namespace)
    if program:
        cluster = _entry(merged, "clusters", entry.get("cluster"), "cluster")
        answered = _ask_program(program, cluster, " ".join(map(str, files)))
        for named in merged["users"]:
            if named.get("name") == entry.get("user"):
                named["user"] = answered
    return Prepared(_in_memory({**merged, "current-context": current}, stack), "", namespace)


def _in_memory(content: Mapping[str, Any], stack: ExitStack) -> Path:
    descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(json.dumps(content).encode())
    return Path(f"/proc/self/fd/{descriptor}")


# --- reading ---


def _merge(files: Sequence[Path]) -> dict[str, Any]:
    merged: dict[str, Any] = {"current-context": "", **{kind: [] for kind in _KINDS}}
    for file in files:
        if len(files) > 1 and not file.exists():
            continue
        content = _read(file)
        current = content.get("current-context")
        if not merged["current-context"] and isinstance(current, str):
            merged["current-context"] = current
        for kind in _KINDS:
            known = {entry["name"] for entry in merged[kind]}
            listed = content.get(kind)
            for entry in listed if isinstance(listed, list) else []:
                if isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"] not in known:
                    merged[kind].append(_with_whole_paths(entry, kind[:-1], file.parent.absolute()))
    return merged


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise Misused(f"kubeconfig {file} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Misused(f"kubeconfig {file} is not YAML") from None
    if not isinstance(content, dict):
        raise Misused(f"kubeconfig {file} is none")
    return content


def _with_whole_paths(entry: dict[str, Any], inner: str, folder: Path) -> dict[str, Any]:
    found = entry.get(inner)
    if not isinstance(found, dict):
        return entry
    paths: dict[str, Any] = {name: str(folder / str(found[name])) for name in _INNER_PATHS if found.get(name)}
    program = found.get("exec")
    if isinstance(program, dict) and "/" in str(program.get("command") or ""):
        paths["exec"] = {**program, "command": str(folder / str(program["command"]))}
    return {**entry, inner: {**found, **paths}}


def _entry(merged: Mapping[str, Any], kind: str, name: object, inner: str) -> dict[str, Any]:
    """What a kubeconfig has of this name; empty where `kube.settings` will find what is wrong, or nothing is."""
    for entry in merged[kind]:
        if entry["name"] == name and isinstance(entry.get(inner), dict):
            found: dict[str, Any] = entry[inner]
            return found
    return {}


# --- programs ---


def _ask_program(program: object, cluster: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """The user that a credential program gives (client.authentication.k8s.io ExecCredential).  Raises Misused."""
    if not isinstance(program, dict) or not isinstance(program.get("command"), str):
        raise Misused(f"kubeconfig {subject}: the user's exec names no command")
    arguments, variables = program.get("args") or [], program.get("env") or []
    command = [program["command"], *(map(str, arguments) if isinstance(arguments, list) else [])]
    environment = dict(os.environ)
    for each in variables if isinstance(variables, list) else []:
        if isinstance(each, dict):
            environment[str(each.get("name"))] = str(each.get("value") or "")
    version = program.get("apiVersion")
    wish: dict[str, Any] = {"interactive": os.isatty(0)}
    if program.get("provideClusterInfo"):
        wish["cluster"] = {name: value for name, value in cluster.items() if name != "certificate-authority"}
    asked = {"apiVersion": version, "kind": "ExecCredential", "spec": wish}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(asked)
    where = f"kubeconfig {subject}: {command[0]}, which is to give the user's credentials,"
    try:
        ran = subprocess.run(  # noqa: S603  # the operator's own kubeconfig names it, as for kubectl
            command, env=environment, stdout=subprocess.PIPE, timeout=PROGRAM_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Misused(f"{where} did not end within {PROGRAM_S:g} s") from None
    except (OSError, ValueError) as error:
        raise Misused(f"{where} cannot be started: {getattr(error, 'strerror', None) or 'bad arguments'}") from None
    if ran.returncode != 0:
        raise Misused(f"{where} ended with exit code {ran.returncode}")
    return _credentials(ran.stdout, where)


def _credentials(answer: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        content = None
    status = content.get("status") if isinstance(content, dict) else None
    status = status if isinstance(status, dict) else {}
    user: dict[str, Any] = {}
    if isinstance(token := status.get("token"), str):
        user["token"] = token
    for name, given in (("client-certificate-data", "clientCertificateData"), ("client-key-data", "clientKeyData")):
        if isinstance(text := status.get(given), str):
            user[name] = base64.b64encode(text.encode()).decode()
    if not user:
        raise Misused(f"{where} answered no credentials")
    return user
