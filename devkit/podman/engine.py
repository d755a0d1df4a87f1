"""podman or docker as this machine has them.

On a machine without systemd podman's defaults do not work: no cgroup manager, and limits that the kernel refuses.
There a configuration of our own is used, unless CONTAINERS_CONF names one.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TOOLS: Final = ("podman", "docker")
_SYSTEMD: Final = Path("/run/systemd/system")
_WITHOUT_SYSTEMD: Final = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
"""


class EngineError(Exception):
    """No tool, or it refused; the text is what it said."""


def tool(name: str = "") -> str:
    """The program of that name, or the first of podman and docker that is there.  Raises EngineError.

    A `docker` that is podman (Debian's podman-docker) is called podman: it needs podman's options.
    """
    if name and name not in TOOLS:
        raise EngineError(f"IMAGE_TOOL={name}: must be {' or '.join(TOOLS)}")
    for each in (name,) if name else TOOLS:
        if shutil.which(each):
            return "podman" if each == "docker" and shutil.which("podman") and _is_podman(each) else each
    if name:
        raise EngineError(f"IMAGE_TOOL={name}: not installed, or not on the PATH")
    raise EngineError("neither podman nor docker is installed; on Debian: apt-get install podman runc")


def _is_podman(program: str) -> bool:
    return "podman" in run(program, "--version")


@functools.cache
def environment() -> dict[str, str]:
    """For every call of either; each ignores what is the other's."""
    found = os.environ | {"DOCKER_BUILDKIT": "1"}  # docker before 23 has another builder, which knows no secrets
    if not _SYSTEMD.is_dir() and "CONTAINERS_CONF" not in found:
        with tempfile.NamedTemporaryFile("w", prefix="forge-containers-", suffix=".conf", delete=False) as file:
            # crun refuses the mixture of both versions of cgroups that such machines often have
            file.write(_WITHOUT_SYSTEMD.format(runtime="runc" if shutil.which("runc") else "crun"))
        atexit.register(Path(file.name).unlink, missing_ok=True)
        found["CONTAINERS_CONF"] = file.name
    return found


def run(*words: str, patience_s: float | None = None, cwd: Path | None = None) -> str:
    """The command's standard output.  Raises EngineError with what it said on the other."""
    try:
        done = subprocess.run(
            words,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=patience_s,
            cwd=cwd,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{' '.join(words[:3])}: no answer within {error.timeout:g} s") from None
    except FileNotFoundError:
        raise EngineError(f"{words[0]} is not installed") from None
    if done.returncode != 0:
        raise EngineError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def watch(words: Sequence[str]) -> None:
    """Run it before the user's eyes.  Raises EngineError."""
    code = subprocess.run(words, env=environment(), stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        raise EngineError(f"{words[0]} {words[1]} ended with exit code {code}")
