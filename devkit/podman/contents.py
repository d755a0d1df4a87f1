"""What is in an image: its whole file system as one tar file, read without running anything of it."""

from __future__ import annotations

import contextlib
import posixpath
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser, Parser
from pathlib import Path, PurePosixPath
from typing import Final

from devkit.podman.engine import run

_DIST: Final = re.compile(r"/site-packages/[^/]+\.dist-info/METADATA")
_LICENCES: Final = re.compile(r"^License: *(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """One of Debian's packages, of which at least one file is here."""

    name: str
    version: str
    architecture: str
    licences: tuple[str, ...]
    """As its copyright file names them; empty where that is prose."""


class Contents:
    """One image, opened."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members = {f"/{member.name.removeprefix('./')}".rstrip("/"): member for member in tar.getmembers()}
        """Absolute path -> what it is."""

    def read(self, path: str) -> bytes:
        """A file, links followed, also those of folders on the way.  KeyError: there is none."""
        file = self._tar.extractfile(self._member(path))
        if file is None:
            raise KeyError(path)
        return file.read()

    def _member(self, path: str) -> tarfile.TarInfo:
        at = "/"
        for part in PurePosixPath(path).parts[1:]:
            at = f"{at.rstrip('/')}/{part}"
            member = self.members[at]
            if member.issym():
                rest = PurePosixPath(path).relative_to(at)
                return self._member(posixpath.normpath(f"{PurePosixPath(at).parent / member.linkname}/{rest}"))
        return member

    def files(self) -> Iterator[tuple[str, bytes]]:
        for path, member in self.members.items():
            if member.isfile():
                yield path, self.read(path)

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return sum(member.size for member in self.members.values())

    def python(self) -> str:
        """The version of the interpreter."""
        found = re.search(rb"^version = (\S+)$", self.read("/opt/forge-manager/pyvenv.cfg"), re.MULTILINE)
        assert found is not None
        return found[1].decode()

    def system(self) -> str:
        """The release that the packages are of, as a package URL's `distro` has it: debian-12."""
        about = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', self.read("/etc/os-release").decode(), re.MULTILINE))
        return f"{about['ID']}-{about['VERSION_ID']}"

    def distributions(self) -> list[Message]:
        """The metadata of each Python distribution, by name."""
        found = [BytesParser().parsebytes(self.read(path)) for path in self.members if _DIST.search(path)]
        return sorted(found, key=lambda each: str(each["Name"]).lower())

    def debian(self) -> list[Package]:
        """The packages of Debian, by name."""
        found = []
        for path in sorted(self.members):
            if not path.startswith("/var/lib/dpkg/status.d/"):
                continue
            fields = Parser().parsestr(self.read(path).decode("utf-8"))
            text = self.read(f"/usr/share/doc/{fields['Package']}/copyright").decode("utf-8", "replace")
            named = dict.fromkeys(_LICENCES.findall(text)) if text.startswith("Format:") else {}
            found.append(Package(fields["Package"], fields["Version"], fields["Architecture"], tuple(named)))
        return found


@contextlib.contextmanager
def opened(image: str, program: str = "podman") -> Iterator[Contents]:
    """Raises EngineError."""
    container = run(program, "create", image).strip().splitlines()[-1]
    try:
        with tempfile.TemporaryDirectory(prefix="forge-image-") as folder:
            archive = Path(folder) / "tar"
            run(program, "export", "--output", str(archive), container)
            with tarfile.open(archive) as tar:
                yield Contents(tar)
    finally:
        run(program, "rm", "--force", container)
