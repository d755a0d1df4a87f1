"""The stage: sets of files that appear and disappear by one change of directory, and the links that lead there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.cwdstage import Stage

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
not_root = pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")

SET = {"kes.skey": b"kes", "vrf.skey": b"vrf", "node.cert": b"cert"}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Where the stage shall be; the test process's own working directory comes back afterwards."""
    before = os.open(".", os.O_PATH)
    yield tmp_path / "keys"
    os.fchdir(before)
    os.close(before)


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "shared").mkdir()
    return {name: tmp_path / "shared" / f"target.{name}" for name in SET}


def visible(stage: Stage) -> dict[str, bytes]:
    found = {}
    for name in SET:
        try:
            found[name] = Path(stage.link_for(name)).read_bytes()
        except FileNotFoundError:
            continue
    return found


def everything_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


# --- exposing and withdrawing ---


def test_a_new_stage_shows_nothing(root: Path) -> None:
    stage = Stage(root)
    assert not stage.exposed
    assert visible(stage) == {}


def test_the_stage_is_closed_to_others_even_if_the_folder_was_open_before(root: Path) -> None:
    root.mkdir(mode=0o755)
    Stage(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_prepared_set_is_not_visible_before_it_is_exposed_and_then_all_of_it_is(root: Path) -> None:
    stage = Stage(root)
    prepared = stage.prepare(SET)
    assert visible(stage) == {}
    assert stage.expose(prepared) == []
    assert stage.exposed
    assert visible(stage) == SET


def test_the_files_are_readable_by_their_owner_only_and_writable_by_nobody(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    assert {stat.S_IMODE(Path(stage.link_for(name)).stat().st_mode) for name in SET} == {0o400}


def test_withdrawing_makes_all_paths_cease_to_exist_and_leaves_nothing_behind(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    assert stage.withdraw() == []
    assert not stage.exposed
    assert visible(stage) == {}
    assert everything_below(root) == {"empty"}


def test_withdrawing_twice_or_without_need_does_no_harm(root: Path) -> None:
    stage = Stage(root)
    assert stage.withdraw() == []
    stage.expose(stage.prepare(SET))
    assert stage.withdraw() == []
    assert stage.withdraw() == []


def test_withdrawing_also_removes_a_set_that_was_prepared_and_never_exposed(root: Path) -> None:
    stage = Stage(root)
    prepared = stage.prepare(SET)
    stage.withdraw()
    assert everything_below(root) == {"empty"}
    with pytest.raises(FileNotFoundError):
        stage.expose(prepared)
    assert not stage.exposed


def test_a_newer_set_takes_the_place_of_the_older_one(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    newer = {name: content + b" 2" for name, content in SET.items()}
    assert stage.expose(stage.prepare(newer)) == []
    assert visible(stage) == newer
    assert everything_below(root) == {"empty", "set-2", *(f"set-2/{name}" for name in SET)}


def test_preparing_does_not_touch_what_is_exposed(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    stage.prepare({"kes.skey": b"other"})
    assert visible(stage) == SET


def test_withdrawing_works_after_the_empty_folder_was_taken_away(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    (root / "empty").rmdir()
    assert stage.withdraw() == []
    assert visible(stage) == {}


def test_withdrawing_works_after_the_whole_stage_was_moved_away_and_says_what_it_could_not_clean(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    root.rename(root.with_name("moved"))
    (problem,) = stage.withdraw()
    assert "cannot be listed" in problem
    assert not stage.exposed
    assert visible(stage) == {}


def test_what_cannot_be_removed_is_told_without_its_content_and_the_paths_are_gone_all_the_same(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    (root / "set-1" / "in the way").mkdir()
    problems = stage.withdraw()
    assert [problem.split(" could")[0] for problem in problems] == ["set-1/in the way", "set-1"]
    assert visible(stage) == {}
    assert not list(root.rglob("*.skey"))


def test_a_name_that_is_taken_already_is_an_error_that_names_the_file_and_leaves_nothing(root: Path) -> None:
    stage = Stage(root)
    with pytest.raises(FileNotFoundError) as caught:
        stage.prepare({"kes.skey": b"secret", "no/such/folder": b"secret"})
    assert str(caught.value.filename).endswith("set-1/no/such/folder")
    assert "secret" not in str(caught.value)
    assert everything_below(root) == {"empty"}


def test_a_full_file_system_is_an_error_that_names_the_file_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(root)

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        stage.prepare(SET)
    assert str(caught.value.filename).endswith("set-1/kes.skey")
    assert everything_below(root) == {"empty"}


def test_a_write_that_the_kernel_cuts_short_is_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, write = Stage(root), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:1]))
    stage.expose(stage.prepare(SET))
    assert visible(stage) == SET


def test_whatever_an_earlier_life_left_is_gone_before_anything_else(root: Path) -> None:
    outside = root.with_name("outside")
    outside.mkdir()
    (outside / "not ours").touch()
    (root / "set-9" / "deep" / "deeper").mkdir(parents=True)
    (root / "set-9" / "kes.skey").write_bytes(b"old")
    (root / "empty").mkdir()
    (root / "empty" / "kes.skey").write_bytes(b"old")
    (root / "stray").write_bytes(b"old")
    (root / "link").symlink_to(outside)
    stage = Stage(root)
    assert everything_below(root) == {"empty"}
    assert visible(stage) == {}
    assert (outside / "not ours").exists()


def test_a_link_in_place_of_the_empty_folder_does_not_become_the_working_directory(root: Path) -> None:
    trap = root.with_name("trap")
    trap.mkdir()
    (trap / "kes.skey").write_bytes(b"trap")
    root.mkdir()
    (root / "empty").symlink_to(trap)
    assert visible(Stage(root)) == {}


# --- what remains in memory ---


def test_withdrawn_contents_are_overwritten(root: Path) -> None:
    stage = Stage(root)
    prepared = stage.prepare(SET)
    stage.expose(prepared)
    (root.parent / "kept").hardlink_to(prepared.path / "kes.skey")  # a way to look at what is no longer there
    stage.withdraw()
    assert (root.parent / "kept").read_bytes() == bytes(3)


def test_a_reader_in_the_middle_reads_the_whole_file_to_its_end_and_never_zeros(root: Path) -> None:
    stage = Stage(root)
    stage.expose(stage.prepare(SET))
    with Path(stage.link_for("kes.skey")).open("rb", buffering=0) as file:
        assert file.read(1) == b"k"
        assert stage.withdraw() == []
        assert file.read() == b"es"


# --- links ---


def test_installed_links_lead_to_what_is_exposed_and_nowhere_otherwise(root: Path, targets: dict[str, Path]) -> None:
    stage = Stage(root)
    assert stage.install_links(targets) == []
    assert stage.links_intact(targets) == []
    assert not any(path.exists() for path in targets.values())
    stage.expose(stage.prepare(SET))
    assert {name: path.read_bytes() for name, path in targets.items()} == SET
    stage.withdraw()
    assert not any(path.exists() for path in targets.values())


def test_a_link_says_proc_our_pid_cwd_and_the_name(root: Path) -> None:
    assert Stage(root).link_for("kes.skey") == f"/proc/{os.getpid()}/cwd/kes.skey"


def test_a_file_and_a_strangers_link_at_a_target_are_replaced_and_told(root: Path, targets: dict[str, Path]) -> None:
    stage = Stage(root)
    targets["kes.skey"].write_bytes(b"put here by hand")
    targets["vrf.skey"].symlink_to("/etc/passwd")
    assert len(stage.links_intact(targets)) == 3
    assert stage.install_links(targets) == ["kes.skey", "vrf.skey"]
    assert stage.links_intact(targets) == []
    assert {path.name for path in targets["kes.skey"].parent.iterdir()} == {path.name for path in targets.values()}


def test_a_link_of_an_earlier_life_is_replaced_without_a_word(root: Path, targets: dict[str, Path]) -> None:
    targets["kes.skey"].symlink_to("/proc/1/cwd/kes.skey")
    stage = Stage(root)
    assert stage.install_links(targets) == []
    assert stage.links_intact(targets) == []


def test_intact_links_are_left_alone(root: Path, targets: dict[str, Path]) -> None:
    stage = Stage(root)
    stage.install_links(targets)
    before = {path: path.lstat().st_ino for path in targets.values()}
    assert stage.install_links(targets) == []
    assert {path: path.lstat().st_ino for path in targets.values()} == before


@pytest.mark.parametrize("harm", ["removed", "a file", "another link", "a folder"])
def test_a_link_that_was_tampered_with_is_noticed(root: Path, targets: dict[str, Path], harm: str) -> None:
    stage = Stage(root)
    stage.install_links(targets)
    target = targets["vrf.skey"]
    target.unlink()
    if harm == "a file":
        target.touch()
    elif harm == "another link":
        target.symlink_to(stage.link_for("kes.skey"))
    elif harm == "a folder":
        target.mkdir()
    assert stage.links_intact(targets) == [f"{target} is not our link"]


def test_a_folder_in_the_way_is_an_error_that_names_it_and_the_remedy(root: Path, targets: dict[str, Path]) -> None:
    targets["vrf.skey"].mkdir()
    with pytest.raises(IsADirectoryError, match="remove it") as caught:
        Stage(root).install_links(targets)
    assert caught.value.filename == str(targets["vrf.skey"])
    assert not list(targets["vrf.skey"].parent.glob(".*"))


def test_a_missing_volume_is_an_error_that_names_the_target_and_the_remedy(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "kes.skey"
    with pytest.raises(FileNotFoundError, match="mount the volume shared with the node") as caught:
        Stage(root).install_links({"kes.skey": target})
    assert caught.value.filename == str(target)


@not_root
def test_a_closed_folder_is_an_error_that_names_the_target_and_the_remedy(root: Path, targets: dict[str, Path]) -> None:
    targets["kes.skey"].parent.chmod(0o500)
    with pytest.raises(PermissionError, match="let this user write") as caught:
        Stage(root).install_links(targets)
    assert caught.value.filename == str(targets["kes.skey"])
    targets["kes.skey"].parent.chmod(0o700)
