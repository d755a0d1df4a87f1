"""The bill of materials names everything that is in the image."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from devkit.podman.contents import Contents

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


def made(built: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    from devkit.podman import sbom  # with what `make test-image` installs

    monkeypatch.setattr(sys, "argv", ["sbom", built, "--into", str(folder), "--tool", "podman"])
    sbom.main()
    return (folder / "sbom.cdx.json").read_text(), (folder / "licences.txt").read_text()


def test_every_distribution_and_every_package_is_in_it_with_its_licence(
    built: str, inside: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text, licences = made(built, tmp_path, monkeypatch)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    named = {(each["name"], each["version"]) for each in json.loads(text)["components"]}
    expected = {(str(each["Name"]), str(each["Version"])) for each in inside.distributions()}
    expected |= {(each.name, each.version) for each in inside.debian()}
    assert named == expected | {("python", inside.python())}
    assert all(each["licenses"] for each in json.loads(text)["components"])
    lines = [tuple(line.split()[:2]) for line in licences.splitlines()]
    assert sorted(lines) == sorted(named)
    system = re.escape(inside.system())
    assert len(re.findall(rf'"purl": "pkg:deb/debian/[^"]*distro={system}"', text)) == len(inside.debian())


def test_every_shared_library_belongs_to_a_package_or_a_distribution_that_is_named(inside: Contents) -> None:
    """Debian's licences come along with what they are for."""
    packages = {each.name for each in inside.debian()}
    assert {"libc6", "libssl3", "zlib1g", "ca-certificates"} <= packages
    for package in packages:
        assert inside.read(f"/usr/share/doc/{package}/copyright"), package


def test_the_same_image_gives_the_same_bytes(built: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(built, tmp_path / "a", monkeypatch) == made(built, tmp_path / "b", monkeypatch)
