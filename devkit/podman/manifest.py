"""A manifest of deploy/examples as podman's words: what the kubelet would make of it, as far as these manifests go.

Known are environment, user and group, capabilities, a read-only root file system, privilege escalation, a command to
run before the end, and volumes that are an emptyDir, a secret, or a projected service account.  Anything else in a
container is a mistake, so that a manifest cannot say more than is tried here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from devkit.podman.base import ROOT

EXAMPLES: Final = ROOT / "deploy" / "examples"
_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_KNOWN: Final = frozenset(
    (
        "name",
        "image",
        "command",
        "args",
        "env",
        "envFrom",
        "ports",
        "restartPolicy",
        "securityContext",
        "volumeMounts",
        "lifecycle",
    )
).union(_PROBES)
_OF_THE_POD: Final = ("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "seccompProfile")
_KNOWN_SECURITY: Final = frozenset(
    (*_OF_THE_POD, "allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"),
)
_FIELDS: Final = {"metadata.name": "POD_NAME", "metadata.namespace": "NAMESPACE"}


@dataclass(frozen=True, slots=True)
class Container:
    """One container as it is to be run."""

    name: str
    options: tuple[str, ...]
    """For `podman run`, before the image."""
    command: tuple[str, ...]
    """The manifest's command and args; empty: the image's."""
    volumes: frozenset[str]
    """Names of what is mounted in it."""


class Manifest:
    """The one StatefulSet of a file."""

    def __init__(self, name: str) -> None:
        documents = [each for each in yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()) if each]
        (stateful,) = [each for each in documents if each["kind"] == "StatefulSet"]
        self._spec: dict[str, Any] = stateful["spec"]["template"]["spec"]
        self._labels: dict[str, str] = stateful["spec"]["template"]["metadata"]["labels"]
        self._maps = {each["metadata"]["name"]: each["data"] for each in documents if each["kind"] == "ConfigMap"}
        self.account: str = self._spec["serviceAccountName"]
        assert self._spec["shareProcessNamespace"] is True
        self._security: dict[str, Any] = self._spec.get("securityContext", {})
        assert self._security["seccompProfile"] == {"type": "RuntimeDefault"}, "podman's default is this"

    @property
    def sidecars(self) -> list[dict[str, Any]]:
        """In the order in which they start."""
        found: list[dict[str, Any]] = self._spec["initContainers"]
        return found

    @property
    def node(self) -> dict[str, Any]:
        (found,) = self._spec["containers"]
        return dict(found)

    def hooks(self) -> dict[str, tuple[str, ...]]:
        """Container -> what the kubelet runs in it when its end begins."""
        found = {each["name"]: each["lifecycle"] for each in [*self.sidecars, self.node] if "lifecycle" in each}
        assert all(set(hooks) == {"preStop"} for hooks in found.values())
        return {name: tuple(hooks["preStop"]["exec"]["command"]) for name, hooks in found.items()}

    # --- volumes ---

    def make_volumes(self, folder: Path, secrets: Mapping[str, bytes], account: Mapping[str, bytes]) -> dict[str, Path]:
        """Each volume as a folder with the owners and modes that the kubelet would give it."""
        group = self._security.get("fsGroup")
        made = {}
        for volume in [*self._spec["volumes"], {"name": "data", "emptyDir": {}}]:
            path = made[volume["name"]] = folder / volume["name"]
            path.mkdir()
            match volume:
                case {"emptyDir": _}:
                    path.chmod(0o777)
                case {"secret": {"defaultMode": mode}}:
                    _fill(path, secrets, mode, group)
                case {"projected": {"defaultMode": mode}}:
                    _fill(path, account, mode, group)
                case {"configMap": _}:
                    path.chmod(0o755)
                case _:
                    raise ValueError(f"a volume of a kind that is not known here: {volume}")
            if group is not None:
                os.chown(path, 0, group)
                path.chmod(path.stat().st_mode | 0o2000)
        return made

    # --- containers ---

    def container(self, spec: Mapping[str, Any], volumes: Mapping[str, Path], facts: Mapping[str, str]) -> Container:
        """facts: POD_NAME and NAMESPACE, and what is set beside the manifest's own variables."""
        assert set(spec) <= _KNOWN, set(spec) - _KNOWN
        environment: dict[str, str] = {}
        for source in spec.get("envFrom", ()):
            environment |= self._maps[source["configMapRef"]["name"]]
        for item in spec.get("env", ()):
            environment[item["name"]] = item["value"] if "value" in item else self._told(item, facts)
        environment |= {name: value for name, value in facts.items() if name not in _FIELDS.values()}
        options = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        mounted = set()
        for mount in spec.get("volumeMounts", ()):
            assert set(mount) <= {"name", "mountPath", "readOnly"}
            way = "ro" if mount.get("readOnly") else "rw"
            options += ["--volume", f"{volumes[mount['name']]}:{mount['mountPath']}:{way}"]
            mounted.add(mount["name"])
        command = (*spec.get("command", ()), *spec.get("args", ()))
        return Container(spec["name"], (*options, *self._locks(spec)), command, frozenset(mounted))

    def _told(self, item: Mapping[str, Any], facts: Mapping[str, str]) -> str:
        """By the downward API."""
        path: str = item["valueFrom"]["fieldRef"]["fieldPath"]
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
        return self._labels[label[1]] if label else facts[_FIELDS[path]]

    def _locks(self, spec: Mapping[str, Any]) -> list[str]:
        security = self._security | spec.get("securityContext", {})
        assert set(security) <= _KNOWN_SECURITY, set(security) - _KNOWN_SECURITY
        options = ["--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
        options += ["--cap-drop", "ALL"] if security["capabilities"]["drop"] == ["ALL"] else []
        options += [f"--cap-add={name}" for name in security["capabilities"].get("add", ())]
        if group := security.get("fsGroup"):
            options += ["--group-add", str(group)]
        if security["allowPrivilegeEscalation"] is False:
            options += ["--security-opt", "no-new-privileges"]
        if security.get("readOnlyRootFilesystem"):
            options += ["--read-only", "--read-only-tmpfs=false"]  # podman alone would give it a /tmp and a /run
        return options


def _fill(folder: Path, files: Mapping[str, bytes], mode: int, group: int | None) -> None:
    """As root's, and its group's where there is one."""
    folder.chmod(0o755)
    for name, content in files.items():
        file = folder / name
        file.write_bytes(content)
        os.chown(file, 0, group or 0)
        file.chmod(mode)
