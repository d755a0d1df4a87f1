"""Certificates for tests, signed by themselves; and a secret as Kubernetes mounts one."""

from __future__ import annotations

import datetime
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes
    serial: int

    @property
    def trusting(self) -> ssl.SSLContext:
        """A client that believes this certificate only."""
        context = ssl.create_default_context(cadata=self.certificate.decode())
        context.check_hostname = False
        return context


def pair(*, password: bytes | None = None) -> Pair:
    """password: of the key, which is encrypted then."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pod-0")])
    now, serial = datetime.datetime.now(datetime.UTC), x509.random_serial_number()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)
    return Pair(made.public_bytes(pem), private, serial)


class Mounted:
    """A folder whose files are links through `..data`, which is swapped when the secret changes."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()
        self.swap(**files)

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def swap(self, **files: bytes) -> None:
        """Other contents, all at once, as the kubelet does it (pkg/volume/util/atomic_writer.go)."""
        self._number += 1
        there = self.folder / f"..{self._number}"
        there.mkdir()
        for name, content in files.items():
            (there / name).write_bytes(content)
            if not os.path.lexists(self.folder / name):
                (self.folder / name).symlink_to(f"..data/{name}")
        new = self.folder / "..data_tmp"
        new.symlink_to(there.name)
        new.rename(self.folder / "..data")
