"""Puts together the root file system under the product: Python, the libraries that it loads, nothing else of Debian.

    python3 assemble.py --for VENV --into FOLDER

Runs inside the build, with the interpreter that VENV stands on.  What comes along: the interpreter and its library
without what only developers need, every shared library that these and VENV's own libraries name (ldd says which), the
system's certificate authorities, a user table, and for each Debian package that a file came from its entry and licence
(/var/lib/dpkg/status.d, /usr/share/doc), where scanners look for them.  No shell, no program but the interpreter.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

NOT_LIBRARY = ("__pycache__", "site-packages", "dist-packages", "EXTERNALLY-MANAGED", "_distutils_system_mod.py")
FOR_DEVELOPERS = ("test", "tests", "idlelib", "lib2to3", "pydoc_data", "ensurepip", "venv", "distutils")
SCREENS_AND_DATABASES = ("tkinter", "turtledemo", "turtle.py", "curses", "dbm", "sqlite3")
LEFT_OUT = frozenset((*NOT_LIBRARY, *FOR_DEVELOPERS, *SCREENS_AND_DATABASES))
LEFT_OUT_TOO = re.compile(
    r"config-\d.*|_test.*|_tkinter.*|_ctypes_test.*|xx.*|_xxtest.*|.*\.a|(nis|readline|_curses|_sqlite3|_g?dbm)[._].*"
)
TRUST = ("/usr/lib/ssl/cert.pem", "/usr/lib/ssl/openssl.cnf", "/etc/ssl/certs/ca-certificates.crt")
MADE_BY = ("ca-certificates",)
"""Packages that make files when they are installed: dpkg does not know whose these are."""
ABOUT = ("/etc/os-release", "/etc/debian_version", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
OPENED_BY_NAME = ("libgcc_s.so.1", "librt.so.1")
"""By the C library and by us: ldd does not see them."""
USER = 10001
PASSWD = f"root:x:0:0:root:/nonexistent:/sbin/nologin\nforge:x:{USER}:{USER}:forge-manager:/nonexistent:/sbin/nologin\n"
GROUP = f"root:x:0:\nforge:x:{USER}:\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
PLACES = ("run", "proc", "sys", "dev", "etc")
"""For what the container engine mounts."""
_NAMED = re.compile(r"(?:=> )?(/\S+) \(0x")


class Image:
    """The folder that will be /."""

    def __init__(self, into: Path) -> None:
        self.root = into
        self.brought: set[Path] = set()
        """As they are named in the image."""

    def inside(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def bring(self, path: Path) -> Path:
        """This file or folder, under its name, with every link on the way to it; the same with links followed."""
        at = Path("/")
        for part in path.parts[1:]:
            at = at / part
            if at.is_symlink():
                self._link(at)
                return self.bring(Path(os.path.normpath(at.parent / at.readlink())) / path.relative_to(at))
        if path.is_dir():
            self.inside(path).mkdir(parents=True, exist_ok=True)
            for each in sorted(path.iterdir()):
                self.bring(each)
        elif not self.inside(path).exists():
            self.inside(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self.inside(path))
            self.inside(path).chmod(0o755 if _is_elf(path) else 0o644)
        self.brought.add(path)
        return path

    def _link(self, link: Path) -> None:
        copy = self.inside(link)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.is_symlink():
            copy.symlink_to(link.readlink())

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def library(folder: Path) -> Iterator[Path]:
    """The files of Python's library that are kept."""
    for each in sorted(folder.iterdir()):
        if each.name in LEFT_OUT or LEFT_OUT_TOO.fullmatch(each.name):
            continue
        if each.is_dir():
            yield from library(each)
        elif each.exists():
            yield each


def named_by(files: Iterable[Path]) -> set[Path]:
    """Every shared library that these need, directly or through others.  Raises LookupError for one that is missing."""
    found: set[Path] = set()
    for file in files:
        told = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
        if "not found" in told:
            raise LookupError(f"{file} needs a library that is not here:\n{told}")
        found |= {Path(name) for name in _NAMED.findall(told)}
    return found


def elf(folder: Path) -> list[Path]:
    """Programs and libraries below it."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink() and _is_elf(path)]


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def debian_packages(files: set[Path], more: Iterable[str]) -> dict[str, list[str]]:
    """Package -> its paragraph, for all that these files came from, and some more."""
    wanted = {_merged(path) for path in files}
    owners = set(more)
    for listing in sorted(Path("/var/lib/dpkg/info").glob("*.list")):
        if wanted & {_merged(Path(line)) for line in listing.read_text(encoding="utf-8").splitlines()}:
            owners.add(listing.name.removesuffix(".list").partition(":")[0])
    found = {}
    for paragraph in Path("/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        lines = paragraph.strip().splitlines()
        if lines and (name := lines[0].removeprefix("Package: ")) in owners:
            found[name] = lines
    return found


def _merged(path: Path) -> str:
    """/lib and /usr/lib are one folder, and dpkg knows files by either."""
    return str(path).removeprefix("/usr")


def assemble(venv: Path, into: Path) -> None:
    image = Image(into)
    for place in PLACES:
        (into / place).mkdir(parents=True, exist_ok=True)
    (into / "var").mkdir()
    (into / "var/run").symlink_to("/run")
    image.bring((venv / "bin/python3").readlink())
    standard, parts = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib"))
    for file in sorted({*library(standard), *library(parts)}):
        image.bring(file)
    own = [path for path in sorted(image.brought) if path.is_file() and _is_elf(path)]
    needed = named_by([*own, *elf(venv)])
    beside = next(path.parent for path in needed if path.name == "libc.so.6")
    for shared in sorted({*needed, *(beside / name for name in OPENED_BY_NAME)}):
        if venv not in shared.parents:
            image.bring(shared)
    for name in (*TRUST, *ABOUT):
        image.bring(Path(name))
    image.write("etc/passwd", PASSWD)
    image.write("etc/group", GROUP)
    image.write("etc/nsswitch.conf", NSSWITCH)
    for package, paragraph in debian_packages(image.brought, MADE_BY).items():
        image.write(f"var/lib/dpkg/status.d/{package}", "\n".join(paragraph) + "\n")
        image.bring(Path("/usr/share/doc") / package / "copyright")
    subprocess.run(["ldconfig", "-X", "-r", str(into)], check=True)
    shutil.rmtree(into / "var/cache", ignore_errors=True)  # ldconfig's own, made anew with each build
    compile_ahead(image.inside(standard), into)
    close(into)


def compile_ahead(folder: Path, root: Path) -> None:
    """Byte code that never looks at its source's time: nobody can write here, and builds are to be the same."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(
        folder, quiet=1, stripdir=str(root), prependdir="/", invalidation_mode=mode, workers=1
    ):
        raise RuntimeError(f"not all of {folder} can be compiled")


def close(root: Path) -> None:
    """Nobody but root may change anything; nothing gives its caller another user."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o755)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="venv", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    asked = parser.parse_args()
    try:
        assemble(asked.venv, asked.into)
    except LookupError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
