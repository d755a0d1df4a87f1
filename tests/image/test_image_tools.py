"""What the targets say when they cannot, and what they give to a build; needs neither root nor podman."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devkit.podman import base, engine, image, lock
from devkit.podman.contents import Contents
from devkit.podman.engine import EngineError


def test_without_podman_and_docker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(EngineError, match="neither podman nor docker is installed; on Debian: apt-get install podman"):
        engine.tool()
    with pytest.raises(EngineError, match="IMAGE_TOOL=docker: not installed"):
        engine.tool("docker")


def test_a_platform_that_this_machine_cannot_run_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(image, "tool", lambda name: "podman")
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(EngineError, match="this x86_64 machine cannot run its programs; install an emulator"):
        image.build(target="linux/arm64")
    with pytest.raises(EngineError, match="PLATFORM=linux/riscv64: must be one of linux/amd64, linux/arm64"):
        image.build(target="linux/riscv64")


@pytest.mark.parametrize("asked", ["arm64", "linux/amd64,linux/arm64", "windows/amd64", "linux/arm/v7"])
def test_a_platform_that_is_none_of_ours_is_refused_before_anything_is_built(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in engine.TOOLS:
        monkeypatch.setattr(image, "tool", lambda name, program=program: program)
        with pytest.raises(EngineError, match=f"PLATFORM={asked}: must be one of linux/amd64, linux/arm64"):
            image.build(target=asked)


def test_a_tool_that_is_neither_is_refused_and_a_docker_that_is_podman_is_called_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each needs options of its own: without podman's the image would lose its health check."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(EngineError, match="IMAGE_TOOL=nerdctl: must be podman or docker"):
        engine.tool("nerdctl")
    for said, called in (("podman version 4.3.1", "podman"), ("Docker version 27.1.1", "docker")):
        monkeypatch.setattr(engine, "run", lambda *words, said=said: said)
        assert engine.tool("docker") == called


def checkout(folder: Path) -> Path:
    """One commit of a file that goes into the image, and one that does not."""
    (folder / "cli").mkdir(parents=True)
    for name, text in {
        ".dockerignore": "*\n!cli\n",
        ".gitignore": "*.local\n__pycache__/\n",
        "cli/a.py": "",
        "x": "",
    }.items():
        (folder / name).write_text(text)
    who = ("-c", "user.name=x", "-c", "user.email=x@example.invalid")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "x")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_a_file_that_no_commit_has_and_the_image_gets_makes_it_dirty(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    clean = image.revision(root)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (root / "notes").touch()
    (root / "cli" / "__pycache__").mkdir()
    (root / "cli" / "__pycache__" / "a.pyc").touch()
    assert image.revision(root) == clean, "the build does not see these"
    for name in ("b.py", "c.local"):
        (root / "cli" / name).touch()
        assert image.revision(root) == f"{clean}-dirty", name
        (root / "cli" / name).unlink()
    (root / "x").write_text("changed")
    assert image.revision(root) == f"{clean}-dirty"


def test_a_folder_in_another_project_s_checkout_is_of_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    inner = checkout(tmp_path) / "cli"
    assert (image.revision(inner), image.epoch(inner)) == ("unknown", 0)
    assert image.epoch(tmp_path) > 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(EngineError, match="SOURCE_DATE_EPOCH=yesterday: must be seconds since 1970"):
        image.epoch(tmp_path)


@pytest.mark.parametrize(
    ("commit", "said"), [("unknown", "nobody could verify it"), (f"{'a' * 40}-dirty", "files were changed")]
)
def test_what_is_of_no_commit_is_not_published(commit: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    about = [{"Labels": {"org.opencontainers.image.revision": commit}}]
    monkeypatch.setattr(image, "tool", lambda name: "podman")
    monkeypatch.setattr(image, "run", lambda *words: json.dumps(about))
    monkeypatch.setattr(image, "watch", lambda words: pytest.fail("it was pushed"))
    with pytest.raises(EngineError, match=said):
        image.push(tag="registry.invalid/x:1")


def test_what_is_a_commit_takes_no_layer_of_an_earlier_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """podman would: with the time of that build's commit, so that nobody else's build has the same layers."""
    built: list[list[str]] = []
    monkeypatch.setattr(image, "tool", lambda name: "podman")
    monkeypatch.setattr(image, "here", lambda *_: True)
    monkeypatch.setattr(image, "_insist_that_it_answers", lambda _: None)
    monkeypatch.setattr(image, "_arguments", lambda *_: {})
    monkeypatch.setattr(image, "watch", built.append)
    for commit in ("a" * 40, f"{'a' * 40}-dirty"):
        monkeypatch.setattr(image, "revision", lambda commit=commit: commit)
        image.build()
    assert ["--no-cache" in words for words in built] == [True, False]


def test_a_base_that_is_neither_here_nor_to_be_had_is_named_with_what_to_do_for_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> str:
        raise EngineError("no such host")

    monkeypatch.setattr(image, "tool", lambda name: "podman")
    monkeypatch.setattr(base, "run", refuse)
    monkeypatch.setattr(image, "watch", refuse)
    monkeypatch.setattr(image, "_insist_that_it_answers", lambda _: None)
    with pytest.raises(
        EngineError, match=r"python:3.13-slim-bookworm is not here and cannot be pulled \(no such host\)"
    ):
        image.build()


def test_a_docker_whose_service_does_not_run_is_said_to_and_no_other_base_advised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise EngineError("docker version: exit code 1\nCannot connect to the Docker daemon")

    monkeypatch.setattr(image, "tool", lambda name: "docker")
    monkeypatch.setattr(image, "run", refuse)
    with pytest.raises(EngineError, match=r"^docker does not answer: Cannot connect to the Docker daemon$"):
        image.build()


def test_docker_builds_with_the_builder_that_knows_secrets() -> None:
    """Before docker 23, and without its plugin buildx, another one is the default."""
    assert engine.environment()["DOCKER_BUILDKIT"] == "1"


def test_what_is_copied_into_the_image_lands_in_its_root() -> None:
    """docker gives a folder that is made on the way there the time of the build: no two builds would have the same."""
    copied = re.findall(r"^COPY --from=\S+ (\S+) (\S+)$", (base.ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(copied) == 3
    assert {into for _, into in copied} == {"/"}


def test_a_base_may_be_pinned_by_its_digest() -> None:
    assert image.parts("registry.invalid:5000/python:3.13@sha256:ab") == {
        "PYTHON_IMAGE": "registry.invalid:5000/python",
        "PYTHON_TAG": "3.13",
        "PYTHON_DIGEST": "@sha256:ab",
    }
    with pytest.raises(EngineError, match="must have a tag"):
        image.parts("registry.invalid:5000/python")


def test_a_push_without_a_tag_is_refused() -> None:
    with pytest.raises(EngineError, match="make push TAG="):
        image.push()


def test_where_a_registry_cannot_be_reached_and_nothing_can_stand_in_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*words: str, **_: object) -> str:
        raise EngineError(f"{' '.join(words)}: no such host")

    monkeypatch.setattr(base, "run", refuse)
    monkeypatch.setattr(base, "tool", str)
    monkeypatch.setattr(base.os, "getuid", lambda: 0)
    monkeypatch.setattr(base.shutil, "which", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EngineError, match=r"debootstrap is not installed: .*or reach a registry"):
        base.find()


def test_an_index_and_authorities_of_pip_s_go_to_the_build_as_secrets_and_files_of_this_machine_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("authorities")
    settings = {"index-url": "https://index.invalid/simple", "find-links": "/wheels", "cert": str(tmp_path / "ca.pem")}
    monkeypatch.setattr(image, "_pip_settings", lambda: settings)
    with image._secrets() as words:
        files = {word.partition(",src=")[0]: Path(word.partition(",src=")[2]) for word in words if "src=" in word}
        written = files["id=pip.conf"].read_text()
        assert written == "[global]\nindex-url = https://index.invalid/simple\ncert = /run/ca.pem\n"
        assert files["id=ca.pem"].read_text() == "authorities"
    assert not files["id=pip.conf"].exists()


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM])
def test_a_build_that_is_told_to_end_leaves_nothing_of_pip_s_configuration_behind(
    ending: signal.Signals, tmp_path: Path
) -> None:
    """It may have a password in it.  `timeout`, and whoever cancels a job, sends SIGTERM."""
    programs, folder = tmp_path / "bin", tmp_path / "tmp"
    programs.mkdir()
    folder.mkdir()
    known = json.dumps([{"Digest": "sha256:ab", "Labels": {"x": "y"}}])
    podman = programs / "podman"
    podman.write_text(f"#!/bin/sh\n[ $1 = build ] || {{ echo '{known}'; exit; }}\necho begun\nexec sleep 600\n")
    podman.chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "devkit.podman.image", "build", "--tool", "podman"]
    with subprocess.Popen(command, cwd=base.ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert list(folder.glob("forge-pip-*/pip.conf"))
        process.send_signal(ending)
        assert process.wait() == 128 + ending
    assert list(folder.iterdir()) == []


def test_pip_s_variables_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TRUSTED_HOST", "one.invalid two.invalid")
    assert image._pip_settings()["trusted-host"] == "one.invalid two.invalid"


def test_where_uv_cannot_resolve_the_lock_says_so_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*, upgrade: bool) -> None:
        raise subprocess.CalledProcessError(2, ["uv"])

    monkeypatch.setattr(lock, "write", refuse)
    monkeypatch.setattr("sys.argv", ["lock"])
    with pytest.raises(SystemExit, match="uv could not resolve"):
        lock.main()


def test_an_image_on_another_release_is_said_to_be_of_that_release() -> None:
    """Scanners look for a package's vulnerabilities by it."""
    text = b'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        folder = tarfile.TarInfo("etc")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        file = tarfile.TarInfo("etc/os-release")
        file.size = len(text)
        tar.addfile(file, io.BytesIO(text))
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        assert Contents(tar).system() == "debian-13"


def test_the_base_is_named_once_with_room_for_its_digest() -> None:
    assert base.named_base() == "docker.io/library/python:3.13-slim-bookworm"


@pytest.mark.parametrize("file", [lock.REQUIREMENTS, lock.BUILD])
def test_each_version_is_locked_by_name_and_by_the_hash_of_its_files(file: Path) -> None:
    for entry in re.split(r"\n(?=[^\s#])", file.read_text().removeprefix("# Made by `make lock`; do not edit.\n")):
        asked = Requirement(entry.splitlines()[0].removesuffix("\\"))
        assert re.fullmatch(r"==[^,]+", str(asked.specifier)), entry
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_what_the_product_asks_for_is_locked_within_its_bounds() -> None:
    with (base.ROOT / "pyproject.toml").open("rb") as opened:
        asked = [Requirement(each) for each in tomllib.load(opened)["project"]["dependencies"]]
    text = lock.REQUIREMENTS.read_text()
    locked = {canonicalize_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)}
    for each in asked:
        assert locked[canonicalize_name(each.name)] in each.specifier, each


def test_the_build_sees_no_test_no_dev_kit_and_no_folder_of_git() -> None:
    lines = (base.ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    seen = {line[1:] for line in lines if line.startswith("!")}
    assert not seen & {"tests", "devkit", "bench", ".git", "docs", "."}
    with (base.ROOT / "pyproject.toml").open("rb") as opened:
        packages = tomllib.load(opened)["tool"]["setuptools"]["packages"]
    assert {each.partition(".")[0] for each in packages} <= seen
