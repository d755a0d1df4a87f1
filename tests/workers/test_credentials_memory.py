"""Where a key is after it was exposed and withdrawn: nowhere in the process that did it.

The child knows its key from the source file only; this process searches all of the child's memory for it, by
/proc/<pid>/mem, while the child stands still.  The pages of tmpfs and of the page cache belong to the kernel and not
to the child's memory: they are seen to by `kernel.cwdstage`, which overwrites the files themselves.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devkit import keys

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}
CHILD = """
import asyncio, os, signal, sys

from config import load
from kernel.clock import boottime_ns
from kernel.process import die_with_parent
from workers.credentials import CannotExpose, Credentials

def say(word):
    print(word, flush=True)
    assert sys.stdin.readline()

def targets(config):
    return (config.target_kes_key, config.target_vrf_key, config.target_op_cert)

async def main(do):
    config = load(os.environ)
    credentials = Credentials(config, lambda: None)
    credentials.look(boottime_ns())
    for command in do.split():
        if command == "expose":
            credentials.expose("test")
            assert all(path.stat().st_size > 0 for path in targets(config))
        elif command == "refuse":
            try:
                credentials.expose("test")
            except CannotExpose:
                pass
            else:
                raise SystemExit("it was exposed")
        elif command == "withdraw":
            credentials.withdraw("test")
            assert not any(path.exists() for path in targets(config))
        elif command == "keep":
            kept = config.source_kes_key.read_bytes()
    say("; ".join(credentials.warnings) or "-")
    credentials.close()

die_with_parent(signal.SIGKILL, int(sys.argv[2]))
asyncio.run(main(sys.argv[1]))
"""


class Pod:
    """The folders of a pod, with a key nobody else has."""

    def __init__(self, root: Path, mode: str) -> None:
        self.canary = secrets.token_hex(32).encode()
        self.secrets, self.shared = root / "secrets", root / "ipc"
        self.shared.mkdir()
        made = keys.generate(self.secrets, kes_period=keys.current_kes_period("mainnet"))
        made.cold.unlink()
        _put(made.kes, 3, self.canary)  # the leaf's seed, and that of each right half
        for level in range(6):
            _put(made.kes, 3 + 32 + 96 * level, self.canary)
        _put(made.vrf, 2, self.canary)
        self.environment = {
            **os.environ,
            **{f"SOURCE_{variable}": str(self.secrets / name) for variable, name in NAMES.items()},
            **{f"TARGET_{variable}": str(self.shared / name) for variable, name in NAMES.items()},
            "RUN_DIR": str(root / "run"),
            "POD_NAME": "pod-0",
            "CREDENTIAL_MODE": mode,
            "PYTHONPATH": str(REPOSITORY),
        }
        (root / "run" / "actuator").mkdir(parents=True)

    @contextmanager
    def child(self, do: str, *prefix: str) -> Iterator[tuple[int, str]]:
        """A process that did so, standing still; its pid and what it warns of."""
        command = [*prefix, sys.executable, "-c", CHILD, do, str(os.getpid())]
        with subprocess.Popen(
            command, env=self.environment, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                said = process.stdout.readline().strip()
                assert said, "the child ended"
                yield process.pid, said
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.wait(60) == 0
            finally:
                process.kill()


def _put(path: Path, at: int, canary: bytes) -> None:
    """In place of the secret bytes from this one of the CBOR on."""
    fields = json.loads(path.read_bytes())
    digits = fields["cborHex"]
    fields["cborHex"] = digits[: 2 * at] + canary.decode() + digits[2 * at + len(canary) :]
    path.chmod(0o600)
    path.write_text(json.dumps(fields), encoding="ascii")


@pytest.fixture(params=["ephemeral", "file"])
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Pod:
    return Pod(tmp_path, request.param)


def places(pid: int, wanted: bytes) -> list[str]:
    """The mappings of a process in which these digits stand, or what they stand for."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            span, access, *_ = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if not access.startswith("r") or line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                continue
            memory.seek(first)
            content = memory.read(last - first)
            assert content is not None
            if wanted in content or bytes.fromhex(wanted.decode()) in content:
                found.append(line)
    return found


def test_the_search_finds_a_key_that_was_left_behind(pod: Pod) -> None:
    with pod.child("expose withdraw keep") as (pid, _):
        assert places(pid, pod.canary)


def test_after_the_withdrawal_the_key_is_nowhere_in_the_process(pod: Pod) -> None:
    with pod.child("expose withdraw") as (pid, _):
        assert places(pid, pod.canary) == []


def test_while_the_key_is_exposed_it_is_in_the_files_only(pod: Pod) -> None:
    with pod.child("expose") as (pid, _):
        assert places(pid, pod.canary) == []


def test_a_refused_exposure_leaves_no_key_either(pod: Pod) -> None:
    (pod.secrets / NAMES["OP_CERT"]).unlink()
    with pod.child("refuse") as (pid, _):
        assert places(pid, pod.canary) == []


def test_many_rounds_leave_nothing(pod: Pod) -> None:
    with pod.child("expose withdraw " * 20) as (pid, _):
        assert places(pid, pod.canary) == []


@pytest.mark.skipif(not all(map(shutil.which, ("prlimit", "setpriv"))), reason="needs util-linux")
@pytest.mark.parametrize("do", ["", "expose"], ids=["from the start", "after an exposure"])
def test_memory_that_may_not_be_locked_is_a_warning_with_its_remedy(pod: Pod, do: str) -> None:
    limited = ("prlimit", "--memlock=0:0")
    if os.getuid() == 0:
        limited = (*limited, "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock")
    with pod.child(do, *limited) as (_, warnings):
        assert "RLIMIT_MEMLOCK" in warnings
        assert "swap" in warnings


def test_memory_that_may_be_locked_is_no_warning(pod: Pod) -> None:
    with pod.child("expose") as (_, warnings):
        assert "RLIMIT_MEMLOCK" not in warnings
