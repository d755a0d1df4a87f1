"""`make package`: complete, nothing but what was committed, the same bytes twice."""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from devkit import package
from devkit.package import CannotPackage
from devkit.package.source import source_of

from distributions import ROOT, Installation, Made, run

pytestmark = [pytest.mark.package, pytest.mark.timeout(600)]

PRODUCT = {"cardano", "cli", "config", "gateway", "health", "ipc", "kernel", "kube", "outgoing", "policy", "sandbox"}
PRODUCT |= {"workers"}
BY_THE_BUILD = {"PKG-INFO", "setup.cfg"}


def committed() -> set[str]:
    if (ROOT / ".git").exists():
        return set(run("git", "-C", ROOT, "ls-files", "-z").split("\0")) - {""}
    listed = (ROOT / "cardano_forge_manager.egg-info" / "SOURCES.txt").read_text().splitlines()
    return {line for line in listed if not line.startswith("cardano_forge_manager.egg-info/")} - BY_THE_BUILD


def a_copy(folder: Path) -> Path:
    """Of this checkout, or of this unpacked source distribution."""
    copy = folder / "copy"
    if (ROOT / ".git").exists():
        run("git", "clone", "--quiet", ROOT, copy)
    else:
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", "dist", "__pycache__"))
    return copy


def test_the_source_distribution_holds_every_file_of_the_commit_and_no_other(made: Made) -> None:
    found = {name for name in made.in_sdist() if not name.startswith("cardano_forge_manager.egg-info/")}
    assert found - BY_THE_BUILD == committed()


def test_the_wheel_holds_the_product_and_nothing_that_only_its_makers_use(made: Made) -> None:
    tops = {name.partition("/")[0] for name in made.in_wheel()}
    assert {top for top in tops if not top.startswith("cardano_forge_manager-")} == PRODUCT
    data = {name.partition(".data/data/")[2] for name in made.in_wheel() if ".data/" in name}
    beside = {
        f"share/forge-manager/{Path(name).parent.name}/{Path(name).name}"
        for name in committed_in("crds", "rbac", "systemd")
    }
    assert data >= beside | {"share/forge-manager/supervisor.conf"}


def committed_in(*folders: str) -> set[str]:
    return {name for name in committed() if name.startswith(tuple(f"deploy/{folder}/" for folder in folders))}


def test_the_same_commit_gives_the_same_bytes_whatever_else_lies_in_the_checkout(made: Made, tmp_path: Path) -> None:
    copy = a_copy(tmp_path)
    if (copy / ".git").exists():
        (copy / "README.md").write_text("not committed")
    (copy / "policy" / "forgotten.py").write_text("not committed")
    (copy / "build").mkdir()
    (copy / "build" / "old.py").write_text("of an earlier build")
    package.package(["wheel", "sdist"], copy, tmp_path / "again")
    assert Made(tmp_path / "again").bytes() == made.bytes()


def test_an_unpacked_source_distribution_makes_the_same_files_without_git(made: Made, tmp_path: Path) -> None:
    tree = made.unpack(tmp_path / "unpacked")
    run(sys.executable, "-m", "devkit.package", "--out", tmp_path / "again", cwd=tree)
    assert Made(tmp_path / "again").bytes() == made.bytes()


def test_neither_a_umask_nor_a_config_of_git_changes_the_bytes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\nautocrlf = true\n[log]\nshowSignature = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    before = os.umask(0o077)
    try:
        package.package(["wheel", "sdist"], ROOT, tmp_path / "again")
    finally:
        os.umask(before)
    assert Made(tmp_path / "again").bytes() == made.bytes()


def test_the_checksums_are_those_of_every_file_and_can_be_checked(made: Made) -> None:
    said = run("sha256sum", "--check", "--strict", package.SUMS, cwd=made.folder).splitlines()
    assert said == [f"{name}: OK" for name in sorted(made.bytes()) if name != package.SUMS]


def test_a_part_that_nobody_can_make_is_an_error_and_what_was_made_before_stays(tmp_path: Path) -> None:
    (tmp_path / "before").write_text("")
    with pytest.raises(CannotPackage, match="no such part: moon"):
        package.package(["wheel", "moon"], ROOT, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["before"]


def test_a_folder_that_is_neither_a_checkout_nor_a_source_distribution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotPackage, match="neither a git checkout nor an unpacked source distribution"):
        package.package(["sdist"], tmp_path, tmp_path / "out")


def a_commit(folder: Path, files: dict[str, str]) -> Path:
    """A repository in which these files are committed: name -> content."""
    repository = folder / "repository"
    repository.mkdir()
    for name, content in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(content)
    git = ["git", "-C", repository, "-c", "user.name=n", "-c", "user.email=e"]
    run("git", "init", "--quiet", repository)
    run(*git, "add", "--all")
    run(*git, "commit", "--quiet", "--allow-empty", "--message", "m")
    return repository


def a_release(version: str) -> dict[str, str]:
    chart = f'version: {version}\nappVersion: "{version}" # as the image\n'
    return {
        "pyproject.toml": f'[project]\nversion = "{version}"\n',
        "CHANGELOG.md": f"# Changelog\n\n## {version} (2026-01-31)\n",
        "deploy/chart/Chart.yaml": chart,
        "deploy/chart-crds/Chart.yaml": chart,
    }


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("pyproject.toml", '[project]\nversion = "3.1.0.dev1"\n', "tagged v3.1.0, and pyproject.toml says 3.1.0.dev1"),
        ("CHANGELOG.md", "## Unreleased (3.1.0)\n", r"CHANGELOG.md has no section `## 3.1.0 \(YYYY-MM-DD\)`"),
        ("deploy/chart-crds/Chart.yaml", "version: 3.0.0\n", "deploy/chart-crds/Chart.yaml says 3.0.0"),
    ],
)
def test_nothing_is_made_of_a_commit_that_contradicts_its_tag(file: str, text: str, said: str, tmp_path: Path) -> None:
    repository = a_commit(tmp_path, a_release("3.1.0") | {file: text})
    run("git", "-C", repository, "tag", "v3.1.0")
    with pytest.raises(CannotPackage, match=f"not the release that its tag says:\n(.*\n)*.*{said}"):
        package.package([], repository, tmp_path / "out")


def test_a_commit_that_agrees_with_its_tag_is_a_release(tmp_path: Path) -> None:
    repository = a_commit(tmp_path, a_release("3.1.0"))
    run("git", "-C", repository, "tag", "v3.1.0")
    run("git", "-C", repository, "tag", "verified")
    package.package([], repository, tmp_path / "out")


def test_what_is_not_committed_is_named_since_it_is_not_in_it(tmp_path: Path) -> None:
    repository = a_commit(tmp_path, {"README.md": ""})
    (repository / "forgotten.py").write_text("")
    assert package.changed_since(repository) == ["?? forgotten.py"]


def test_a_python_3_11_of_before_the_filters_of_tarfile_packages_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12 has one."""
    extract = tarfile.TarFile.extractall

    def as_before(tar: tarfile.TarFile, path: Path) -> None:
        extract(tar, path, filter="fully_trusted")

    if hasattr(tarfile, "data_filter"):
        monkeypatch.delattr(tarfile, "data_filter")
        monkeypatch.setattr(tarfile.TarFile, "extractall", as_before)
    with source_of(a_commit(tmp_path, {"README.md": "here"})) as source:
        assert (source.folder / "README.md").read_text() == "here"


@pytest.mark.parametrize(
    ("part", "missing"), [("chart", "deploy/chart/Chart.yaml"), ("image", "Dockerfile"), ("sbom", "Dockerfile")]
)
def test_a_part_whose_makings_are_not_in_the_commit_is_an_error_that_names_them(
    part: str, missing: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotPackage, match=rf"^{part}: {missing}, .* is not in this commit$"):
        package.package([part], a_commit(tmp_path, {"README.md": ""}), tmp_path / "out")


def an_image_maker(folder: Path) -> dict[str, str]:
    """Stand-ins for `make build` and `make sbom`, and for podman, that only say what they were asked."""
    engine = folder / "engine"
    engine.write_text('#!/bin/sh\necho "$1 $4" > "$3"\n')  # save --output FILE TAG
    engine.chmod(0o755)
    return {
        "Dockerfile": "",
        "devkit/__init__.py": "",
        "devkit/podman/__init__.py": "",
        "devkit/podman/engine.py": f"def tool(_):\n    return {str(engine)!r}\n",
        "devkit/podman/image.py": "version = lambda: '1.2'\nif __name__ == '__main__':\n    print('x/y:1.2')\n",
        "devkit/podman/sbom.py": "import pathlib, sys\n_, image, _, into = sys.argv\npathlib.Path(into).mkdir()\n"
        "for name in ('sbom.cdx.json', 'licences.txt'):\n    pathlib.Path(into, name).write_text(image)\n",
    }


def test_the_image_and_what_is_in_it_are_files_of_the_release_and_the_same_bytes_twice(tmp_path: Path) -> None:
    repository = a_commit(tmp_path, an_image_maker(tmp_path))
    for name in ("one", "two"):
        package.package(["image", "sbom"], repository, tmp_path / name)
    made = Made(tmp_path / "one").bytes()
    assert made == Made(tmp_path / "two").bytes()
    archive = f"cardano-forge-manager-1.2-image-linux-{platform.machine()}.tar.gz"
    names = ("licences.txt", "sbom.cdx.json")
    assert made.keys() == {archive, package.SUMS, *(f"cardano-forge-manager-1.2-{name}" for name in names)}
    assert gzip.decompress(made[archive]) == b"save x/y:1.2\n"
    assert made["cardano-forge-manager-1.2-sbom.cdx.json"] == b"x/y:1.2"


def test_no_image_is_made_of_files_that_are_not_committed(tmp_path: Path) -> None:
    repository = a_commit(tmp_path, an_image_maker(tmp_path))
    (repository / "forgotten.py").write_text("")
    with pytest.raises(CannotPackage, match=r"not committed:\n.*forgotten.py"):
        package.package(["image"], repository, tmp_path / "out")


def test_the_source_distribution_can_be_installed_by_itself(made: Made, tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, made.sdist)
    assert {path.name for path in tmp_path.iterdir()} >= PRODUCT
    assert (tmp_path / "share" / "forge-manager" / "supervisor.conf").is_file()


def test_tests_run_from_the_unpacked_source_distribution(made: Made, tmp_path: Path) -> None:
    tree = made.unpack(tmp_path / "unpacked")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/policy/test_grants.py"]
    command += ["tests/config", "tests/deploy"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " skipped" not in done.stdout
    where = [sys.executable, "-c", "import config, devkit; print(config.__file__, devkit.__file__)"]
    found = subprocess.run(where, cwd=tree, capture_output=True, text=True, check=True).stdout.split()
    assert all(Path(file).is_relative_to(tree) for file in found), "the tests were those of the distribution"


# --- what the wheel installs ---


def test_the_installed_commands_answer(installation: Installation, made: Made) -> None:
    version = made.wheel.name.split("-")[1]
    assert run(installation.command("forge-manager"), "--version").strip() == version
    assert run(installation.command("forge-manager"), "--help").startswith("usage: forge-manager")
    for name in ("forgectl", "kubectl-forge"):
        assert "switchover" in run(installation.command(name), "--help")


def test_nothing_of_the_makers_can_be_imported_from_it(installation: Installation) -> None:
    for name in ("devkit", "bench", "tests", "pytest"):
        assert installation.python(f"import importlib.util; print(importlib.util.find_spec({name!r}))") == "None"


def test_the_processes_list_and_the_page_are_found_in_it(installation: Installation) -> None:
    conf = Path(installation.python("from cli.forge_manager import configuration_file as f; print(f())"))
    assert conf == installation.folder.resolve() / "share" / "forge-manager" / "supervisor.conf"
    page = Path(installation.python("import gateway; print(gateway.__file__)")).parent / "page"
    assert {file.name for file in page.iterdir()} == {"index.html", "page.css", "page.js"}


def test_keys_are_checked_by_it(installation: Installation, tmp_path: Path) -> None:
    run(sys.executable, "-m", "devkit.keys", tmp_path / "keys", "--network", "mainnet", cwd=ROOT)
    (tmp_path / "keys" / "cold.skey").unlink()
    said = run(installation.command("forgectl"), "check", tmp_path / "keys", "--network", "mainnet")
    assert "a node can forge with these on mainnet until" in said
