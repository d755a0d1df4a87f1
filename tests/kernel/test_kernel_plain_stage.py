"""CREDENTIAL_MODE=file: the same verbs on plain files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kernel.plainstage import PlainStage

SET = {"kes.skey": b"kes", "vrf.skey": b"vrf"}


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / f"target.{name}" for name in SET}


def test_a_new_stage_takes_away_what_an_earlier_life_left(targets: dict[str, Path], tmp_path: Path) -> None:
    for path in targets.values():
        path.write_bytes(b"old")
        path.with_name(f".{path.name}.forge-manager").write_bytes(b"old")
    stage = PlainStage(targets)
    assert not stage.exposed
    assert not list(tmp_path.iterdir())


def test_a_set_is_exposed_whole_and_readable_by_its_owner_only(targets: dict[str, Path], tmp_path: Path) -> None:
    stage = PlainStage(targets)
    prepared = stage.prepare(SET)
    assert not any(path.exists() for path in targets.values())
    stage.expose(prepared)
    assert stage.exposed
    assert {name: path.read_bytes() for name, path in targets.items()} == SET
    assert {stat.S_IMODE(path.stat().st_mode) for path in targets.values()} == {0o400}
    assert len(list(tmp_path.iterdir())) == len(SET)


def test_withdrawing_removes_exposed_and_prepared_files_and_may_be_repeated(
    targets: dict[str, Path], tmp_path: Path
) -> None:
    stage = PlainStage(targets)
    stage.expose(stage.prepare(SET))
    stage.prepare(SET)
    assert stage.withdraw() == []
    assert stage.withdraw() == []
    assert not stage.exposed
    assert not list(tmp_path.iterdir())


def test_a_link_at_a_target_is_replaced_not_followed(targets: dict[str, Path], tmp_path: Path) -> None:
    stage = PlainStage(targets)
    (tmp_path / "elsewhere").write_bytes(b"elsewhere")
    targets["kes.skey"].symlink_to(tmp_path / "elsewhere")
    stage.expose(stage.prepare(SET))
    assert (tmp_path / "elsewhere").read_bytes() == b"elsewhere"
    assert not targets["kes.skey"].is_symlink()


def test_a_set_that_cannot_be_written_leaves_nothing_and_names_the_path(
    targets: dict[str, Path], tmp_path: Path
) -> None:
    targets["vrf.skey"] = tmp_path / "nowhere" / "vrf.skey"
    stage = PlainStage(targets)
    with pytest.raises(FileNotFoundError) as caught:
        stage.prepare(SET)
    assert str(caught.value.filename).startswith(str(tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_removed_is_told_and_one_missing_file_is_enough(targets: dict[str, Path]) -> None:
    stage = PlainStage(targets)
    stage.expose(stage.prepare(SET))
    targets["kes.skey"].unlink()
    targets["kes.skey"].mkdir()
    (problem,) = stage.withdraw()
    assert str(targets["kes.skey"]) in problem
    assert not stage.exposed


def test_a_volume_that_is_not_mounted_is_told_with_the_remedy(targets: dict[str, Path], tmp_path: Path) -> None:
    targets["vrf.skey"] = tmp_path / "nowhere" / "vrf.skey"
    (problem,) = PlainStage(targets).problems()
    assert problem == f"{tmp_path / 'nowhere'} does not exist; mount the volume shared with the node there"
