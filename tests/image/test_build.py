"""The same commit gives the same layers, wherever and whenever it is built."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from devkit.kernels import checkout_files
from devkit.podman import image, lock
from devkit.podman.base import ROOT, STAND_IN
from devkit.podman.engine import EngineError, run

from image_names import TAG

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


def test_another_build_from_another_folder_with_files_of_another_time_gives_the_same_layers(
    about: dict[str, Any], base: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "checkout"
    for name in checkout_files():
        target = elsewhere / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        os.utime(target, (1_000_000_000, 1_000_000_000))
    again = f"{TAG}-again"
    image.build(image_tool="podman", tag=again, base=base, cache=False, quiet=True, checkout=elsewhere)
    try:
        second = json.loads(run("podman", "image", "inspect", again))[0]
    finally:
        image.forget(again)
    for what in ("RootFS", "Config", "Created", "Architecture"):  # podman writes ids of its own making into the history
        assert second[what] == about[what]


def test_an_image_on_a_stand_in_for_its_base_is_not_published(built: str, base: str) -> None:
    if base != STAND_IN:
        assert "stand-in" not in run("podman", "image", "inspect", built)
        return
    with pytest.raises(EngineError, match=r"is built on .*stand-in.*that is for tests"):
        image.push(image_tool="podman", tag=built)


def test_every_dependency_has_a_wheel_for_each_python_and_both_machines() -> None:
    assert lock.without_wheel() == []
