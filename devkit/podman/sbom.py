"""The image's bill of materials, CycloneDX as JSON, and a list of the licences: `make sbom`.

    python -m devkit.podman.sbom IMAGE --into FOLDER

Read from the image itself, not from what was meant to be in it: the interpreter, every Python distribution, and each of
Debian's packages of which a file is there.  The same image gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from devkit.ending import end_cleanly
from devkit.podman.base import here
from devkit.podman.contents import Contents, Package, opened
from devkit.podman.engine import TOOLS, EngineError, run, tool

_CLASSIFIER: Final = "License :: OSI Approved :: "
_UNKNOWN: Final = "see its files"
_licences: Final = LicenseFactory()


def licence_of(about: Message) -> str:
    """Of a Python distribution: the expression, else the classifiers, else the first line of the older field."""
    if expression := about["License-Expression"]:
        return str(expression)
    classifiers = [str(each) for each in about.get_all("Classifier", ())]
    named = [each.removeprefix(_CLASSIFIER) for each in classifiers if each.startswith(_CLASSIFIER)]
    older = str(about["License"] or "").strip().splitlines()
    return " AND ".join(named) or (older[0] if older else "") or _UNKNOWN


def components(contents: Contents) -> list[tuple[Component, str]]:
    """Each with its licence in words."""
    version = contents.python()
    python = _component("python", version, PackageURL("generic", name="python", version=version), "PSF-2.0")
    found = [(python, "PSF-2.0")]
    for about in contents.distributions():
        name, licence = str(about["Name"]), licence_of(about)
        url = PackageURL("pypi", name=name.lower().replace("_", "-"), version=str(about["Version"]))
        found.append((_component(name, str(about["Version"]), url, licence), licence))
    return found + [_debian(each, contents.system()) for each in contents.debian()]


def _debian(package: Package, system: str) -> tuple[Component, str]:
    licence = ", ".join(package.licences) or f"see /usr/share/doc/{package.name}/copyright"
    more = {"arch": package.architecture, "distro": system}
    url = PackageURL("deb", "debian", package.name, package.version, qualifiers=more)
    return _component(package.name, package.version, url, licence), licence


def _component(name: str, version: str, url: PackageURL, licence: str) -> Component:
    named = [_licences.make_from_string(licence)]
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string(), licenses=named
    )


def bill(image: str, revision: str, created: str, identity: str, found: Iterable[tuple[Component, str]]) -> str:
    """As JSON."""
    bom = Bom(components=(component for component, _ in found), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, identity))
    bom.metadata.timestamp = datetime.fromisoformat(created).astimezone(UTC)
    whole = Component(name=image, version=revision, type=ComponentType.CONTAINER, bom_ref="image")
    bom.metadata.component = whole
    bom.register_dependency(whole, bom.components)
    bom.metadata.properties.add(Property(name="image:id", value=identity))
    return str(json.dumps(json.loads(JsonV1Dot6(bom).output_as_string()), indent=2, sort_keys=True)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkit.podman.sbom", description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--into", type=Path, default=Path("build"))
    parser.add_argument("--tool", default="", help=" or ".join(TOOLS))
    asked = parser.parse_args()
    end_cleanly()
    try:
        program = tool(asked.tool)
        if not here(asked.image, program):
            sys.exit(f"error: {program} has no {asked.image}: make build, or name another one: make sbom TAG=...")
        about = json.loads(run(program, "image", "inspect", asked.image))[0]
        with opened(asked.image, program) as contents:
            found = components(contents)
    except EngineError as error:
        sys.exit(f"error: {error}")
    labels = about.get("Labels") or about["Config"]["Labels"]
    revision = labels["org.opencontainers.image.revision"]
    asked.into.mkdir(parents=True, exist_ok=True)
    text = bill(asked.image, revision, about["Created"], about["Id"], found)
    (asked.into / "sbom.cdx.json").write_text(text, encoding="utf-8")
    width = max(len(f"{component.name} {component.version}") for component, _ in found)
    lines = [f"{f'{component.name} {component.version}':<{width}}  {licence}\n" for component, licence in found]
    (asked.into / "licences.txt").write_text("".join(lines), encoding="utf-8")
    print(f"{asked.into}/sbom.cdx.json, {asked.into}/licences.txt: {len(found)} components")


if __name__ == "__main__":
    main()
