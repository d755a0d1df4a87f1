"""What is in the image, and above all what is not."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devkit import keys
from devkit.podman.base import ROOT
from devkit.podman.contents import Contents
from devkit.podman.engine import run
from devkit.podman.image import version
from devkit.podman.lock import REQUIREMENTS

from image_names import PRIVATE_INDEX

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

MOST_MIB = 64
"""For dependencies and product.  Python and the C library are as large as the base has them."""
HOME = "/opt/forge-manager"
SHELLS = ("sh", "bash", "dash", "busybox", "env", "su", "mount", "perl", "curl", "wget")
INSTALLERS = ("apt", "apt-get", "apt.conf", "sources.list", "sources.list.d", "dpkg-deb", "pip", "pip3", "pip.conf")
BUILDERS = ("ensurepip", "setuptools", "wheel", "gcc", "cc", "g++", "ld", "as", "make", "git", "gdb", "ca.pem")
TESTS = ("test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo")
OURS = ("devkit", "bench", ".git", ".cache")
NOT_HERE = frozenset((*SHELLS, *INSTALLERS, *BUILDERS, *TESTS, *OURS))
"""Names of files and folders."""
KEY = re.compile(rb"PRIVATE KEY-----\s+[A-Za-z0-9+/]{30}|\"cborHex\": *\"[0-9a-f]{60}|eyJ[\w-]{20,}\.eyJ[\w-]{20,}\.")
"""Private keys as text, keys of a node, tokens of a service account."""


def paths(inside: Contents, found: object) -> list[str]:
    assert callable(found)
    return [path for path, member in inside.members.items() if found(path, member)]


def test_no_file_gives_its_caller_another_user_or_a_capability(inside: Contents) -> None:
    def gives(_: str, member: tarfile.TarInfo) -> bool:
        return bool(member.mode & 0o6000) or any("security.capability" in name for name in member.pax_headers)

    assert paths(inside, gives) == []


def test_everything_is_roots_and_nobody_else_may_change_anything(inside: Contents) -> None:
    def open_to_others(_: str, member: tarfile.TarInfo) -> bool:
        return (member.uid, member.gid) != (0, 0) or (not member.issym() and bool(member.mode & 0o022))

    assert paths(inside, open_to_others) == []


def test_there_is_no_shell_no_package_manager_no_compiler_no_test_and_nothing_of_the_dev_kit(inside: Contents) -> None:
    unwanted = {path for path in inside.members if NOT_HERE & set(PurePosixPath(path).parts)}
    assert unwanted == set()
    assert not [path for path in inside.members if "xxtest" in path or "_ctypes_test" in path]
    assert not any(path.startswith(("/var/cache/", "/var/lib/apt/", "/tmp/", "/root/")) for path in inside.members)


def test_what_can_be_executed_is_the_interpreter_and_scripts_for_it(inside: Contents) -> None:
    for path, member in inside.members.items():
        if not member.isfile() or not member.mode & 0o111 or re.search(r"\.so(\.[\d.]+)?$", path):
            continue
        if path.startswith(f"{HOME}/bin/"):
            assert inside.read(path).startswith(f"#!{HOME}/bin/python".encode()), path
        else:
            assert re.fullmatch(r"/usr/(local/)?bin/python3\.\d+", path), path


def test_nothing_looks_like_a_key(inside: Contents, tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "keys")
    assert KEY.search(made.kes.read_bytes()), "it would be seen"
    assert [path for path, content in inside.files() if KEY.search(content)] == []


def test_where_the_packages_came_from_is_neither_in_a_file_nor_in_the_history(
    inside: Contents, about: dict[str, Any], built: str
) -> None:
    history = json.dumps(about) + run("podman", "history", "--no-trunc", "--format", "json", built)
    assert "pip.conf" not in history
    assert PRIVATE_INDEX not in history
    assert [path for path, content in inside.files() if PRIVATE_INDEX.encode() in content] == []


def test_the_distributions_are_those_of_the_lock_and_the_product(inside: Contents) -> None:
    environment = {"python_full_version": inside.python(), "python_version": ".".join(inside.python().split(".")[:2])}
    locked = set()
    for line in REQUIREMENTS.read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            asked = Requirement(line.removesuffix("\\"))
            if asked.marker is None or asked.marker.evaluate(environment):
                locked.add((canonicalize_name(asked.name), str(asked.specifier).removeprefix("==")))
    found = {(canonicalize_name(str(each["Name"])), str(each["Version"])) for each in inside.distributions()}
    assert found == locked | {("cardano-forge-manager", version())}


def test_all_byte_code_is_there_and_never_looks_at_its_source_again(inside: Contents) -> None:
    sources = [path for path in inside.members if path.endswith(".py") and re.search(r"/python3\.\d+/", path)]
    assert len(sources) > 1000
    for path in sources:
        folder, name = path.rsplit("/", 1)
        compiled = [each for each in inside.members if each.startswith(f"{folder}/__pycache__/{name[:-3]}.cpython-")]
        if compiled:
            (one,) = compiled
            flags = int.from_bytes(inside.read(one)[4:8], "little")
            assert flags == 0b01, f"{one}: checked against its source"
        else:
            assert re.search(r"/lib2to3/|/bad_|/sitecustomize", path), f"{path} has no byte code"


def test_the_product_s_data_is_there(inside: Contents) -> None:
    assert inside.read(f"{HOME}/share/forge-manager/supervisor.conf") == (ROOT / "supervisor.conf").read_bytes()
    pages = {PurePosixPath(path).name for path in inside.members if "/gateway/page/" in path}
    assert pages == {path.name for path in (ROOT / "gateway" / "page").iterdir()}


def test_it_says_what_it_is_and_runs_as_nobody_in_particular(about: dict[str, Any]) -> None:
    config = about["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["forge-manager"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert about["HealthCheck" if "HealthCheck" in about else "Healthcheck"]["Test"] == ["CMD", "forgectl", "alive"]
    names = {each.partition("=")[0] for each in config["Env"]}
    assert names == {"PATH", "LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH"}
    assert not config.get("Volumes"), "an engine would put an empty disk where a mount was forgotten"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == version()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert labels["org.opencontainers.image.base.name"]


def test_it_is_small(inside: Contents, note: Any) -> None:
    note("the image, unpacked", inside.size / (1 << 20), "MiB")
    ours = sum(m.size for path, m in inside.members.items() if path.startswith(HOME)) / (1 << 20)
    note("the image, of which dependencies and product", ours, "MiB")
    assert ours < MOST_MIB


def test_every_module_of_the_product_can_be_loaded_in_it(built: str) -> None:
    """Of the Kubernetes client much is left out, and of Python's own library some."""
    code = (
        "import importlib, importlib.metadata, sys\n"
        "from importlib.metadata import distribution\n"
        "names = {str(f) for f in distribution('cardano-forge-manager').files if str(f).endswith('.py')}\n"
        "for name in sorted(names):\n"
        "    importlib.import_module(name[:-3].replace('/', '.').removesuffix('.__init__'))\n"
        "print(len(names))\n"
    )
    words = ["run", "--rm", "--network", "none", "--read-only", "--read-only-tmpfs=false", "--entrypoint", "python3"]
    assert int(run("podman", *words, built, "-c", code)) > 100
