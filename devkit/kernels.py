"""The sandbox's tests on other kernels than this machine's, and on arm64: emulated machines.

    python -m devkit.kernels [--every-test] [NAME...]

What a kernel can hold a process to differs by version (docs/privileges.md), and the numbers of system calls by
architecture; both are claims until a kernel has been asked.  Each machine is a Debian kernel under qemu, with Python,
the packages from the index and this checkout as its whole root file system in memory.  Needs root, Debian's package
index, and the packages of `TOOLS`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devkit.ending import end_cleanly

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAMS: Final = ("qemu-system-x86_64", "qemu-system-aarch64", "cpio", "git", "apt-get", "dpkg")
TOOLS: Final = ("qemu-system-x86", "qemu-system-arm", "cpio", "git")
USERLAND: Final = ("python3.11", "busybox-static", "coreutils")
"""Of `USERLAND_SUITE`; with what they depend on."""
USERLAND_SUITE: Final = "bookworm"
NOT_NEEDED: Final = ("coverage", "mypy", "ruff", "types-")
"""Of the dev kit's packages: no test of these imports them."""
TESTS: Final = (
    "tests/sandbox/test_landlock.py",
    "tests/sandbox/test_close.py",
    "tests/kernel/test_kernel_fence.py",
    "tests/kernel/test_kernel_deadline.py",
)
"""What only a kernel can answer.  Two or three minutes for each machine."""
QUICKLY: Final = ("-k", "'not older_kernel'")
MORE_TESTS: Final = (
    "tests/sandbox/test_seccomp.py",
    "tests/sandbox/test_attempts.py",
    "tests/sandbox/test_audit_mutations.py",
)
"""Every system call and every restriction, one by one, and each older version of Landlock: ten minutes more."""
AT_ONCE: Final = 2
MEMORY_MIB: Final = 3000
PATIENCE_S: Final = 3000
"""For one machine.  An emulated processor is ten times slower than a real one."""
PASSED: Final = "=== all passed"
_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1bc")


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    architecture: str
    """As Debian calls it."""
    suite: str
    """Of the kernel."""
    emulator: tuple[str, ...]
    console: str

    @property
    def kernel(self) -> str:
        """The package that depends on the newest kernel of the suite."""
        return f"linux-image-cloud-{self.architecture}"


_PC: Final = ("qemu-system-x86_64", "-M", "q35", "-cpu", "max")
_ARM: Final = ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72")
MACHINES: Final = (
    Machine("linux-6.1", "amd64", "bookworm", _PC, "ttyS0"),
    Machine("linux-6.12", "amd64", "trixie", _PC, "ttyS0"),
    Machine("newest", "amd64", "trixie-backports", _PC, "ttyS0"),
    Machine("newest-arm64", "arm64", "trixie-backports", _ARM, "ttyAMA0"),
)

_INIT: Final = """#!/bin/busybox sh
export PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8
/bin/busybox --install -s /usr/local/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
for folder in /dev/shm /tmp /run; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
ln -sf /proc/self/fd /dev/fd
ifconfig lo 127.0.0.1 up
cd /repo
python3 -c 'import platform; from sandbox import landlock
print("===", platform.release(), platform.machine(), "Landlock ABI", landlock.abi())'
FORGE_PATIENCE_S=1000 python3 -m pytest -p no:cacheprovider -q --timeout 1200 TESTS && echo "PASSED"
poweroff -f
"""


class Index:
    """Debian's package index, several releases and architectures of it, beside what this machine has installed."""

    def __init__(self, folder: Path) -> None:
        """Raises subprocess.CalledProcessError, LookupError."""
        self._folder = folder
        self._configuration = folder / "apt.conf"
        for name in ("lists/partial", "archives/partial", "empty"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        suites = sorted({USERLAND_SUITE, *(machine.suite for machine in MACHINES)})
        lines = [f"deb {_mirror()} {suite} main\n" for suite in suites]
        (folder / "sources.list").write_text("".join(lines))
        settings = {
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferencesparts": folder / "empty",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        lines = [f'{name} "{value}";\n' for name, value in settings.items()]
        self._configuration.write_text("".join(lines) + 'APT::Architectures { "amd64"; "arm64"; };\n')
        self._apt("update")

    def _apt(self, *words: str) -> None:
        command = ["apt-get", "-qq", "-y", "-c", str(self._configuration), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def unpack(self, packages: Iterable[str], architecture: str, suite: str, into: Path) -> None:
        """These packages and all that they depend on, as if on an empty machine; no script of theirs is run."""
        archives = self._folder / f"{suite}-{architecture}"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        chosen = ("-o", f"APT::Architecture={architecture}", "-o", f"Dir::Cache::archives={archives}", "-t", suite)
        self._apt(*chosen, "--no-install-recommends", "--download-only", "install", *packages)
        for archive in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(archive), str(into)], check=True)


def _mirror() -> str:
    """Where this machine has its own packages from.  Raises LookupError on one that is not Debian."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for address in told:
        if address.rstrip("/").endswith("/debian"):
            return address
    raise LookupError("this machine's apt knows no Debian mirror; run this on Debian")


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def _requirements() -> list[str]:
    """What the product and its tests import."""
    project = _project()
    every = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [each for each in every if not each.startswith(NOT_NEEDED)]


def checkout_files() -> list[str]:
    """Of this checkout, as they lie there, without what git ignores.  Raises LookupError where git knows of none."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LookupError(f"{ROOT} must be a git checkout, which says what is copied: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def make_root(index: Index, architecture: str, into: Path, tests: Iterable[str], files: Iterable[str]) -> None:
    """Python, its packages and these files of this checkout, ready to be entered and to run `tests`."""
    index.unpack(USERLAND, architecture, USERLAND_SUITE, into)
    site = into / "usr/local/lib/python3.11/dist-packages"
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    platforms = [f"--platform=manylinux{version}_{machine}" for version in ("2014", "_2_17", "_2_28", "_2_34")]
    wheels = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--no-compile", *platforms]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--target={site}"]
    subprocess.run([*pip, *wheels, *_requirements()], check=True)
    (site / "checkout.pth").write_text("/repo\n")
    name = _project()["name"]
    about = site / f"{name.replace('-', '_')}-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    for name in ("proc", "sys", "dev", "tmp", "run", "repo", "root", "etc", "usr/local/bin"):
        (into / name).mkdir(parents=True, exist_ok=True)
    (into / "tmp").chmod(0o1777)
    (into / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (into / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (into / "usr/bin/python3").symlink_to("python3.11")
    (into / "bin/sh").symlink_to("busybox")
    for name in files:
        target = into / "repo" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    init = into / "init"
    init.write_text(_INIT.replace("TESTS", " ".join(tests)).replace("PASSED", PASSED))
    init.chmod(0o755)


def make_image(root: Path, image: Path) -> None:
    """The whole root file system as an initial RAM disk."""
    names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, capture_output=True).stdout
    with image.open("wb") as output:
        packer = ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet"]
        subprocess.run(packer, cwd=root, input=names, stdout=output, check=True)


def find_kernel(index: Index, machine: Machine, into: Path) -> Path:
    """Raises LookupError."""
    index.unpack([machine.kernel], machine.architecture, machine.suite, into)
    for path in sorted(into.rglob("vmlinuz*")):
        if path.is_file() and not path.is_symlink():
            return path
    raise LookupError(f"{machine.kernel} of {machine.suite} brings no kernel")


def run(machine: Machine, kernel: Path, image: Path) -> list[str]:
    """What did not pass there, a line each; what it prints goes to our standard output."""
    command = [*machine.emulator, "-accel", "tcg", "-m", str(MEMORY_MIB)]
    command += ["-nographic", "-no-reboot", "-net", "none", "-kernel", str(kernel), "-initrd", str(image)]
    command += ["-append", f"console={machine.console} quiet panic=-1"]
    begun = time.monotonic()
    passed = False
    failed = []
    with subprocess.Popen(
        ["timeout", str(PATIENCE_S), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = _COLOURS.sub("", line).strip()
            passed = passed or text == PASSED
            if text.startswith(("FAILED ", "ERROR ")):
                failed.append(f"{machine.name}: {text}")
            if text:
                print(f"[{machine.name}] {text}", flush=True)
    print(f"{machine.name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - begun:.0f} s", flush=True)
    return [] if passed else failed or [f"{machine.name}: did not end its tests"]


def run_all(wanted: Sequence[Machine], tests: Iterable[str]) -> list[str]:
    """What did not pass on these machines, a line each.  Raises LookupError, subprocess.CalledProcessError."""
    files = checkout_files()  # before minutes of downloading
    with tempfile.TemporaryDirectory(prefix="forge-kernels-") as name:
        folder = Path(name)
        index = Index(folder / "apt")
        images = {architecture: folder / architecture for architecture in {m.architecture for m in wanted}}
        for architecture, image in images.items():
            root = folder / f"root-{architecture}"
            root.mkdir()
            make_root(index, architecture, root, tests, files)
            make_image(root, image)
            shutil.rmtree(root)
        kernels = [find_kernel(index, machine, folder / machine.name) for machine in wanted]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            failed = list(pool.map(run, wanted, kernels, [images[machine.architecture] for machine in wanted]))
    return [line for of_one in failed for line in of_one]


def main() -> None:
    """Exit 1 unless all tests passed on each of the machines that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m devkit.kernels", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[[], *(machine.name for machine in MACHINES)])
    parser.add_argument("--every-test", action="store_true", help="also those that take minutes")
    arguments = parser.parse_args()
    end_cleanly(with_children=True)
    asked = arguments.name or [machine.name for machine in MACHINES]
    tests = (*TESTS, *MORE_TESTS) if arguments.every_test else (*TESTS, *QUICKLY)
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        sys.exit(
            f"{', '.join(missing)}: not installed (on Debian, which this needs: apt-get install {' '.join(TOOLS)})"
        )
    if os.getuid() != 0:
        sys.exit("needs root: the files of the emulated machine belong to root")
    wanted = [machine for machine in MACHINES if machine.name in asked]
    try:
        failed = run_all(wanted, tests)
    except (LookupError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
