"""Builds and publishes the image: `make build`, `make push`.

The same commit gives the same layers: times are the commit's, dependencies are locked by hash, byte code does not
depend on when or where it was made.  An index, a proxy and certificate authorities of this machine's pip configuration
are given to the build as secrets; nothing of them is in the image or in its history.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from devkit.ending import end_cleanly
from devkit.podman.base import LABEL, ROOT, here, named_base
from devkit.podman.engine import EngineError, run, tool, watch

REPOSITORY: Final = "cardano/forge-manager"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PASSED_ON: Final = ("index-url", "extra-index-url", "trusted-host", "timeout", "proxy")
"""Of pip's configuration.  What names a file of this machine would mean nothing there."""
_CA: Final = "/run/ca.pem"
_DIRTY: Final = "-dirty"
_UNKNOWN: Final = "unknown"
_NOT_BYTE_CODE: Final = ":(exclude,glob)**/__pycache__/**"
_LABELS: Final = ("forge-manager.build=stage", "org.opencontainers.image.title=cardano-forge-manager")
"""One of these has everything that the Dockerfile makes: the first what is not in the image."""


def version() -> str:
    """Of the product, as pyproject.toml has it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def default_tag() -> str:
    return f"{REPOSITORY}:{version()}"


def epoch(root: Path = ROOT) -> int:
    """When the commit was made: SOURCE_DATE_EPOCH, or what git says.  0 outside a checkout.  Raises EngineError."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        raise EngineError(f"SOURCE_DATE_EPOCH={given}: must be seconds since 1970")
    return int(given or (_git(root, "log", "-1", "--no-show-signature", "--format=%ct") if _is_checkout(root) else 0))


def revision(root: Path = ROOT) -> str:
    """The commit; with `-dirty` where what goes into the image differs from it or is not in it; else `unknown`."""
    if not _is_checkout(root):
        return _UNKNOWN
    found = _git(root, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") or _UNKNOWN
    if not found.endswith(_DIRTY) and _git(root, "ls-files", "--others", "--", *_seen(root), _NOT_BYTE_CODE):
        return found + _DIRTY
    return found


def _seen(root: Path) -> list[str]:
    """What the build sees of the checkout, also of what git ignores."""
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def _is_checkout(root: Path) -> bool:
    """Of its own: not a folder in another project's, nor one that git refuses to look at (another user's)."""
    top = _git(root, "rev-parse", "--show-toplevel")
    return bool(top) and Path(top).resolve() == root.resolve()


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def build(
    *,
    image_tool: str = "",
    target: str = "",
    tag: str = "",
    base: str = "",
    cache: bool = True,
    quiet: bool = False,
    checkout: Path = ROOT,
) -> str:
    """Build it, and say under which name.  Raises EngineError.

    target: as PLATFORM has it (linux/arm64); empty: this machine's.  base: to build on instead of the Dockerfile's.
    cache: what is no commit may take layers of an earlier build; those have the time of that one's commit, and podman
    does not see the difference.
    """
    program = tool(image_tool)
    tag = tag or default_tag()
    _insist_that_it_can_run(target, program)
    _insist_that_it_answers(program)
    _insist_on_base(program, base or named_base(), target)
    with _secrets() as secrets:
        words = [program, "build", *_ways_of(program), *secrets, "--tag", tag]
        words += ["--platform", target] if target else []
        words += [] if cache and revision().endswith(_DIRTY) else ["--no-cache"]
        for name, value in _arguments(program, base).items():
            words += ["--build-arg", f"{name}={value}"]
        words.append(str(checkout))
        if quiet:
            run(*words)
        else:
            watch(words)
    return tag


def _ways_of(program: str) -> list[str]:
    """What each of them needs to give everything the commit's time."""
    if program == "docker":
        return []  # the Dockerfile gives files the commit's time, BuildKit the image (SOURCE_DATE_EPOCH)
    ways = ["--timestamp", str(epoch()), "--format", "docker"]  # the other format has no HEALTHCHECK
    if os.getuid() == 0 and not Path("/run/systemd/system").is_dir():
        return [*ways, "--network", "host", "--isolation", "chroot"]
    return ways


def _arguments(program: str, base: str) -> dict[str, str]:
    found = {"SOURCE_DATE_EPOCH": str(epoch()), "VERSION": version(), "REVISION": revision()}
    name = base or named_base()
    about = json.loads(run(program, "image", "inspect", name))[0]
    digest = about.get("Digest") or "".join(about["RepoDigests"][:1]).partition("@")[2] or "unknown"
    if LABEL.partition("=")[0] in _labels(about):
        name = f"{base} ({LABEL.partition('=')[2]})"
    if base:
        found |= parts(base)
    return found | {"BASE_NAME": name, "BASE_DIGEST": digest}


def parts(base: str) -> dict[str, str]:
    """The Dockerfile's arguments for this base: registry/name:tag, with @sha256:... or without."""
    name, at, digest = base.partition("@")
    image, _, tag = name.rpartition(":")
    if not image or "/" in tag:
        raise EngineError(f"BASE={base}: must have a tag")
    return {"PYTHON_IMAGE": image, "PYTHON_TAG": tag, "PYTHON_DIGEST": at + digest}


def _labels(about: Mapping[str, Any]) -> dict[str, str]:
    """podman and docker write them in different places."""
    found: dict[str, str] = about.get("Labels") or about["Config"].get("Labels") or {}
    return found


def _insist_on_base(program: str, name: str, target: str) -> None:
    """It is here, or is pulled now.  Raises EngineError."""
    if here(name, program) and (not target or name.startswith("localhost/")):
        return  # what was pulled before may be for another machine than the target
    try:
        watch([program, "pull", *(("--platform", target) if target else ()), name])
    except EngineError as error:
        raise EngineError(
            f"{name} is not here and cannot be pulled ({error}); where no registry can be reached, for tests only: "
            "make build BASE=$(python3 -m devkit.podman.base)"
        ) from None


def _insist_that_it_can_run(target: str, program: str) -> None:
    """Steps of the build are run: another architecture's need an emulator.  Raises EngineError."""
    known = {f"linux/{value}": key for key, value in _ARCHITECTURES.items()}
    if target and target not in known:
        raise EngineError(f"PLATFORM={target}: must be one of {', '.join(known)}")
    if not target or program == "docker" or known[target] == platform.machine():
        return
    if not Path(f"/proc/sys/fs/binfmt_misc/qemu-{known[target]}").exists():
        raise EngineError(
            f"PLATFORM={target}: this {platform.machine()} machine cannot run its programs; install an emulator "
            "(on Debian: apt-get install qemu-user-static), or build on a machine of that kind"
        )


def _insist_that_it_answers(program: str) -> None:
    """docker's service may not run, and may not be ours to ask.  Raises EngineError."""
    try:
        run(program, "version")
    except EngineError as error:
        raise EngineError(f"{program} does not answer: {str(error).strip().splitlines()[-1]}") from None


@contextlib.contextmanager
def _secrets() -> Iterator[list[str]]:
    """This machine's pip configuration as secrets of the build."""
    settings = _pip_settings()
    with tempfile.TemporaryDirectory(prefix="forge-pip-") as name:
        lines = [f"{key} = {settings[key]}\n" for key in _PASSED_ON if key in settings]
        words = ["--secret", f"id=pip.conf,src={name}/pip.conf"]
        authorities = Path(settings.get("cert", "/nonexistent"))
        if authorities.is_file():
            shutil.copyfile(authorities, Path(name) / "ca.pem")
            lines.append(f"cert = {_CA}\n")
            words += ["--secret", f"id=ca.pem,src={name}/ca.pem"]
        (Path(name) / "pip.conf").write_text("[global]\n" + "".join(lines))
        yield words


def _pip_settings() -> dict[str, str]:
    """What pip would use here: its files, then its variables."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.startswith(("global.", ":env:.")):
            found[name.rpartition(".")[2]] = " ".join(shlex.split(value)).replace("\\n", " ")
    return found


def forget(tag: str) -> None:
    """Remove the image from podman's store, and what its build left there.  Raises EngineError."""
    run("podman", "rmi", "--force", tag)
    for label in _LABELS:
        run("podman", "image", "prune", "--force", "--filter", f"label={label}")


def push(*, image_tool: str = "", tag: str = "") -> None:
    """Publish what was built under this name, after building it.  Raises EngineError."""
    if not tag:
        raise EngineError("say which: make push TAG=registry/forge-manager:v3.0.0")
    program = tool(image_tool)
    about: dict[str, Any] = json.loads(run(program, "image", "inspect", tag))[0]
    labels = _labels(about)
    if (base := labels.get("org.opencontainers.image.base.name", "")).endswith(f"({LABEL.partition('=')[2]})"):
        raise EngineError(f"{tag} is built on {base}: that is for tests; build it where the registry can be reached")
    commit = labels.get("org.opencontainers.image.revision", _UNKNOWN)
    if commit == _UNKNOWN:
        why = "no git, no checkout of its own, or another user's (git config safe.directory)"
        raise EngineError(f"{tag} does not say of which commit it is, so nobody could verify it: {why}")
    if commit.endswith(_DIRTY):
        raise EngineError(f"{tag} is not what any commit says: files were changed; commit them and build again")
    watch([program, "push", tag])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkit.podman.image", description=__doc__)
    parser.add_argument("command", choices=["build", "push", "name"], help="name: what build calls it")
    parser.add_argument("--tool", default="", help="podman or docker; default: the first that is there")
    parser.add_argument("--platform", default="", help="linux/amd64 or linux/arm64; default: this machine's")
    parser.add_argument("--tag", default="", help=f"default: {default_tag()}")
    parser.add_argument("--base", default="", help="build on this image instead of the Dockerfile's")
    parser.add_argument("--no-cache", action="store_true")
    asked = parser.parse_args()
    if asked.command == "name":
        print(asked.tag or default_tag())
        return
    end_cleanly()
    try:
        tag = build(
            image_tool=asked.tool, target=asked.platform, tag=asked.tag, base=asked.base, cache=not asked.no_cache
        )
        if asked.command == "push":
            push(image_tool=asked.tool, tag=asked.tag)
    except EngineError as error:
        sys.exit(f"error: {error}")
    print(f"{asked.command}: {tag}")


if __name__ == "__main__":
    main()
