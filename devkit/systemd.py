"""A systemd of our own: a "host" in namespaces, over this machine's files, for tests of units.

It is the machine's real systemd as process 1 of a process namespace, with mounts and control groups of its own; the
network is this machine's, so hosts reach API servers on loopback and need different ports.  What it writes is in
memory.  It dies with us, by the kernel.  Needs root, unshare and nsenter (util-linux), systemd, overlayfs, and cgroup
v2 mounted.

What it is not: its control groups have no controllers (memory limits do nothing) where this machine keeps them in
version 1, and of systemd's own units there are only targets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from devkit.pod import MemoryFolder

SYSTEMD: Final = Path("/usr/lib/systemd/systemd")
SOURCE: Final = Path("/opt/source")
"""Where a host sees our checkout."""
PYTHON: Final = Path("/opt/python")
"""Where it sees the installation of Python that we run by: ours may lie in somebody's home."""
_LAUNCH: Final = str(Path(__file__).with_name("launch.py"))
_TARGETS: Final = ("sysinit", "basic", "network-online", "multi-user", "shutdown", "umount", "final", "exit")
_LONG_S: Final = 90.0
_LIBRARIES: Final = {"LD_LIBRARY_PATH": str(PYTHON / "lib")}
"""A libpython is looked for where Python was built for, which a unit with ProtectHome may not see."""
ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **_LIBRARIES}
"""Of a command in it."""

_BOOT: Final = r"""
set -e
folder=$1 source=$2 python=$3 layer=$4
mount --make-rprivate /
root=$folder/root
mount -t overlay overlay -o "lowerdir=$layer:/,upperdir=$folder/upper,workdir=$folder/work" "$root"
mkdir -p "$root/opt/source" "$root/opt/python"
mount --bind "$source" "$root/opt/source"
mount --bind "$python" "$root/opt/python"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
cp -r "$folder/units/." etc/systemd/system/
pivot_root . .
umount --lazy .
mount --make-rshared /  # as systemd does it where it is not in a container
exec env -i container=other SYSTEMD_UNIT_PATH=/etc/systemd/system PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/lib/systemd/systemd --system --unit=basic.target --show-status=0 --log-target=console
"""


class CannotBoot(Exception):  # noqa: N818  # a refusal, named as such
    """No systemd of our own can be had here; the text says why."""


class Host:
    """One host.  `layer`: a folder whose content it sees in `/`, over this machine's."""

    def __init__(self, name: str, layer: Path) -> None:
        """Boot it.  Raises CannotBoot."""
        if missing := [need for need in (SYSTEMD, layer) if not need.exists()]:
            raise CannotBoot(f"{missing[0]} is not there")
        if os.getuid() != 0:
            raise CannotBoot("only root can make a process 1 with mounts and control groups of its own")
        self.name = name
        self._folder = MemoryFolder()
        root = self._folder.path
        for part in ("root", "upper", "work", "units"):
            (root / part).mkdir()
        for target in _TARGETS:
            (root / "units" / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        (root / "units" / "service.d").mkdir()
        (root / "units" / "service.d" / "log.conf").write_text(
            "[Service]\nStandardOutput=append:/run/log-%N\nStandardError=inherit\n"
            + "".join(f"Environment={name}={value}\n" for name, value in _LIBRARIES.items())
        )
        groups = _cgroup2()
        for orphan in groups.glob("forge-host-*"):  # of a process that was killed; one in use refuses
            _try_remove(orphan)
        self._group = groups / f"forge-host-{root.name}"
        self._group.mkdir()
        self._console = (root / "console").open("wb")
        boot = ["sh", "-c", 'echo 0 > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(self._group)]
        boot += ["unshare", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child"]
        boot += ["sh", "-c", _BOOT, "sh", str(root), str(Path(__file__).parents[1]), sys.base_prefix, str(layer)]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", _LAUNCH, "--parent", str(os.getpid()), "--", *_absolute(boot)],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_up()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_up(self) -> None:
        end = time.monotonic() + _LONG_S
        while True:
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self._folder.path / "console").read_text(errors="replace")
                raise CannotBoot(f"systemd did not come up:\n{said[-2000:]}")
            with contextlib.suppress(OSError, IndexError):
                if self.run("systemctl", "is-active", "basic.target", check=False).stdout == "active\n":
                    return
            time.sleep(0.05)

    @property
    def init(self) -> int:
        """Its process 1, as we see it.  Raises IndexError while there is none."""
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def path(self, inside: str) -> Path:
        """A file of its own, as we see it."""
        return Path(f"/proc/{self.init}/root") / inside.lstrip("/")

    def way_in(self, folder: str = "/") -> list[str]:
        """What leads to a shell's place in it, before the command."""
        spaces = ("--mount", "--pid", "--ipc", "--uts", "--cgroup", "--root")
        return ["nsenter", f"--target={self.init}", *spaces, f"--wd={self.path(folder)}", "--"]

    def run(
        self, *command: str, user: str = "", environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        enter = [*self.way_in(), *(["runuser", "-u", user, "--"] if user else []), *command]
        known = {**ENVIRONMENT, **(environment or {})}
        done = subprocess.run(enter, env=known, capture_output=True, text=True, check=False, timeout=_LONG_S)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", "--no-pager", *words, check=check).stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", unit, f"--property={name}", "--value").strip()

    def freeze(self, unit: str, *, frozen: bool) -> None:
        """As `systemctl freeze` and `thaw`, which need a message bus."""
        group = self.path("/sys/fs/cgroup") / self.show(unit, "ControlGroup").lstrip("/")
        (group / "cgroup.freeze").write_text("1" if frozen else "0")

    def log(self, unit: str) -> str:
        """What it wrote."""
        file = self.path(f"/run/log-{unit}")
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        """End it with all its processes; nothing is left."""
        self._process.kill()  # unshare's child is killed with it, and process 1 takes the namespace along
        self._process.wait()
        self._console.close()
        _remove_group(self._group)
        self._folder.close()


def _absolute(command: list[str]) -> list[str]:
    """launch.py looks for nothing."""
    found = shutil.which(command[0])
    if found is None:
        raise CannotBoot(f"{command[0]} is not installed")
    return [found, *command[1:]]


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    raise CannotBoot("no cgroup v2 is mounted writable")


def _remove_group(group: Path) -> None:
    """Its last processes may take a moment to be gone."""
    end = time.monotonic() + _LONG_S
    while group.exists():
        _try_remove(group)
        if time.monotonic() > end:
            raise TimeoutError(f"{group} is still in use")
        time.sleep(0.01)


def _try_remove(group: Path) -> None:
    with contextlib.suppress(OSError):
        for below, _, _ in os.walk(group, topdown=False):
            Path(below).rmdir()


def relocated(installation: Path, layer: Path, where: str) -> None:
    """Put a venv into a layer, as if it had been made at `where` with the host's Python."""
    target = layer / where.lstrip("/")
    shutil.copytree(installation, target, symlinks=True)
    for file in (target / "bin").iterdir():
        if file.is_symlink():
            if file.readlink().is_absolute():
                inside = PYTHON / file.readlink().resolve().relative_to(Path(sys.base_prefix).resolve())
                file.unlink()
                file.symlink_to(inside)
        elif (text := file.read_bytes()).startswith(b"#!"):
            file.write_bytes(text.replace(str(installation).encode(), where.encode()))
    settings = target / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace(str(Path(sys.base_prefix)), str(PYTHON)))
