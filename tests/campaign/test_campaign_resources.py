"""Memory and descriptors: a drift is seen, and nothing else is taken for one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from campaign_parts import remaining
from campaign_resources import ENOUGH, Pressure, Sample, drifts, left_behind, look

MANY = 8 * ENOUGH


def samples(pss: list[int], fds: list[int] | None = None, kind: str = "elector") -> list[Sample]:
    fds = fds or [20] * len(pss)
    return [Sample(float(n), "pod-0", kind, p, f) for n, (p, f) in enumerate(zip(pss, fds, strict=True))]


def test_what_stays_is_no_leak_though_it_swings() -> None:
    (found,) = drifts(samples([25_000 + 3000 * (n % 3) for n in range(MANY)]))
    assert not found.leaks
    assert (found.pss_first_kib, found.pss_last_kib, found.pss_max_kib) == (28_000, 28_000, 31_000)


def test_memory_that_grows_is_a_leak() -> None:
    (found,) = drifts(samples([25_000 + 60 * n for n in range(MANY)]))
    assert found.leaks


def test_descriptors_that_grow_are_a_leak() -> None:
    (found,) = drifts(samples([25_000] * MANY, [20 + n // 20 for n in range(MANY)]))
    assert found.leaks
    assert found.fds_max == 20 + (MANY - 1) // 20


def test_of_few_samples_nothing_is_said() -> None:
    (found,) = drifts(samples([1000 * n for n in range(20)]))
    assert not found.leaks


def test_kinds_are_apart_and_none_is_none() -> None:
    assert drifts([]) == []
    found = drifts(samples([1, 2, 3]) + samples([9], kind="gateway"))
    assert [each.kind for each in found] == ["elector", "gateway"]
    assert (found[1].pss_first_kib, found[1].pss_last_kib) == (9, 9)


def test_a_process_is_looked_at_and_one_that_is_gone_is_none() -> None:
    found = look(os.getpid())
    assert found is not None
    assert found[0] > 1000
    assert found[1] > 2
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert look(process.pid) is None


def test_a_process_that_has_to_do_with_a_folder_is_found_until_it_ends(tmp_path: Path) -> None:
    code = "import sys; print(flush=True); sys.stdin.read()"
    for arguments, environment in (([str(tmp_path / "x")], {}), ([], {"RUN_DIR": str(tmp_path)})):
        with subprocess.Popen(
            [sys.executable, "-S", "-c", code, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            (found,) = left_behind(tmp_path)
            assert found.startswith(f"{process.pid} ")
            process.communicate()
        assert left_behind(tmp_path) == []


def test_who_was_killed_and_has_not_ended_yet_is_waited_for_and_who_stays_is_named(tmp_path: Path) -> None:
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert any(each.startswith(f"{process.pid} ") for each in remaining(tmp_path, 0))
        ending = threading.Timer(0.2, process.communicate)
        ending.start()
        assert not any(each.startswith(f"{process.pid} ") for each in remaining(tmp_path, 60))
        ending.join()


def test_the_share_in_which_something_waited_is_that_of_the_time_since_the_last_look(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    file.write_text("some avg10=1.00 avg60=2.00 avg300=3.00 total=1000000\nfull avg10=0 avg60=0 avg300=0 total=0\n")
    pressure = Pressure(file)
    file.write_text("some avg10=1.00 avg60=2.00 avg300=3.00 total=9000000000\n")
    assert pressure.share() == 1.0  # hours in milliseconds
    assert pressure.share() == 0.0


def test_a_kernel_that_does_not_count_leaves_the_load_to_judge_by(tmp_path: Path) -> None:
    assert 0.0 <= Pressure(tmp_path / "missing").share() <= 1.0
