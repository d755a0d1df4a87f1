"""The parts that other tools make: charts by helm, the image and its contents by podman or docker."""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import sys
from pathlib import Path

from devkit.package.source import CannotPackage, Making, changed_since, commit_of, run, same_bytes


def chart(making: Making) -> list[Path]:
    """The Helm charts, from the commit's files, by a helm that is built from Go modules."""
    _need(making, "chart", "deploy/chart/Chart.yaml", "deploy/chart-crds/Chart.yaml", "devkit/helm/build.py")
    helm = run([sys.executable, "-m", "devkit.helm.build"], folder=making.root).decode().split()[-1]
    found = []
    for name in ("chart", "chart-crds"):
        out = making.work / name
        run([helm, "package", str(making.source.folder / "deploy" / name), "--destination", str(out)])
        (file,) = out.iterdir()
        same_bytes(file, making.source.epoch)
        found.append(Path(shutil.copyfile(file, making.out / file.name)))
    return found


def image(making: Making) -> list[Path]:
    """The image for this machine's architecture, as `podman load` and `docker load` take it."""
    tag = _image(making, "image")
    archive = making.work / "image.tar"
    run([_tool(making), "save", "--output", str(archive), tag])
    target = making.out / f"{_stem(making)}-image-linux-{platform.machine()}.tar.gz"
    with (
        archive.open("rb") as plain,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=making.source.epoch) as packed,
    ):
        shutil.copyfileobj(plain, packed)
    return [target]


def sbom(making: Making) -> list[Path]:
    """What is in that image: CycloneDX, and a list of the licences."""
    tag = _image(making, "sbom")
    into = making.work / "sbom"
    run([sys.executable, "-m", "devkit.podman.sbom", tag, "--into", str(into)], folder=making.root)
    names = {"sbom.cdx.json": f"{_stem(making)}-sbom.cdx.json", "licences.txt": f"{_stem(making)}-licences.txt"}
    return [Path(shutil.copyfile(into / made, making.out / name)) for made, name in names.items()]


def _image(making: Making, part: str) -> str:
    """Build it, and say its name.  It is built from the checkout, which must therefore be the commit."""
    _need(making, part, "Dockerfile", "devkit/podman/image.py", "devkit/podman/sbom.py")
    if commit_of(making.root) is None:
        raise CannotPackage(f"{part}: the image is built from a git checkout, and {making.root} is none")
    if changed := "\n".join(changed_since(making.root)):
        raise CannotPackage(
            f"{part}: the image is built from the checkout, and there these are not committed:\n{changed}"
        )
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(making.source.epoch)}
    run([sys.executable, "-m", "devkit.podman.image", "build"], environment, folder=making.root)
    return run([sys.executable, "-m", "devkit.podman.image", "name"], folder=making.root).decode().strip()


def _tool(making: Making) -> str:
    code = "from devkit.podman.engine import tool; print(tool(''))"
    return run([sys.executable, "-c", code], folder=making.root).decode().strip()


def _stem(making: Making) -> str:
    code = "from devkit.podman.image import version; print(version())"
    return f"cardano-forge-manager-{run([sys.executable, '-c', code], folder=making.root).decode().strip()}"


def _need(making: Making, part: str, *files: str) -> None:
    if missing := [name for name in files if not (making.source.folder / name).exists()]:
        raise CannotPackage(f"{part}: {', '.join(missing)} is not in this commit")
