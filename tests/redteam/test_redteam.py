"""Arbitrary Python code inside each worker of a running pod, its sandbox closed, in all three ways to run.

Every attempt that is refused here is also made where it must succeed: by the same code outside of a sandbox, and in the
workers that declare it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
import redteam_power  # noqa: F401  # fills the list
from redteam_pods import MODES, Field, Outside
from redteam_tools import ATTEMPTS, REFUSALS, Attempt

from sandbox import landlock

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(200),
    pytest.mark.skipif(
        landlock.abi() < landlock.SCOPE_ABI, reason="this kernel's Landlock is too old for what is claimed here"
    ),
]


def _cell(worker: str, attempt: Attempt) -> object:
    return pytest.param(worker, attempt.name, id=f"{worker} {attempt.name}")


CELLS = [_cell(worker, attempt) for attempt in ATTEMPTS.values() for worker in attempt.workers]
AS_ROOT = os.getuid() == 0


def _mode(mode: str) -> object:
    if mode in ("single-uid", "names"):
        return pytest.param(mode)
    why = pytest.mark.skipif(not AS_ROOT, reason="gives processes other users: needs root")
    return pytest.param(mode, marks=[why, pytest.mark.root])


@pytest.fixture(scope="module")
def fields(request: pytest.FixtureRequest) -> Iterator[dict[str, Field]]:
    """A pod of each mode that is wanted; they start at the same time."""
    items = [item for item in request.session.items if hasattr(item, "callspec")]
    wanted = {item.callspec.params.get("field") for item in items if not item.get_closest_marker("root") or AS_ROOT}
    made: dict[str, Field] = {}
    try:
        for mode in MODES:
            if mode in wanted:
                made[mode] = Field(mode)
        yield made
    finally:
        for each in made.values():
            each.close()


@pytest.fixture(scope="module")
def field(request: pytest.FixtureRequest, fields: dict[str, Field]) -> Field:
    found = fields[request.param]
    found.wait()
    return found


def _allowed(attempt: Attempt, worker: str, field: Field) -> bool:
    """The elector and the arbiter may have the API; whether the arbiter does, it declares."""
    if attempt.closed_by and landlock.abi() >= attempt.closed_by:
        return False
    if f"{worker} if it has the API" in attempt.allowed:
        return field.declares_api(worker)
    return bool({worker, f"{worker}@{field.mode}"} & set(attempt.allowed))


IN_MODES = pytest.mark.parametrize("field", [_mode(mode) for mode in MODES], indirect=True, scope="module")


@IN_MODES
@pytest.mark.parametrize(("worker", "name"), CELLS)
def test_code_inside_a_worker_gets_only_what_the_worker_declares(field: Field, worker: str, name: str) -> None:
    attempt = ATTEMPTS[name]
    answer = field.inside(worker, name)
    if _allowed(attempt, worker, field):
        assert "done" in answer, f"the {worker} declares it: {answer}"
    else:
        assert answer.get("errno") in {*REFUSALS, *attempt.also}, f"the {worker} could: {answer}"


@IN_MODES
def test_after_all_attempts_the_same_processes_forge_as_before(field: Field) -> None:
    assert field.untouched() == ""
    assert field.cluster.leader() is field.pod


def test_more_than_sixty_cells_of_each_mode_must_be_refused() -> None:
    refused = [1 for attempt in ATTEMPTS.values() for worker in attempt.workers if worker not in attempt.allowed]
    assert len(refused) > 60


@pytest.fixture(scope="module")
def outside(field: Field) -> dict[str, Outside]:
    """Processes of the pod's user, and of root, without a sandbox."""
    made = {"uid": field.outside(field.uid)}
    if AS_ROOT:
        made["root"] = field.outside(0)
    return made


def _who(attempt: Attempt) -> object:
    """Its control, or why it has none."""
    marks = []
    if attempt.control not in ("uid", "root"):
        marks.append(pytest.mark.skip(reason=f"no control: {attempt.control}"))
    elif attempt.control == "root":
        marks += [pytest.mark.root, pytest.mark.skipif(not AS_ROOT, reason="needs root")]
    return pytest.param(attempt, id=attempt.name, marks=marks)


@pytest.mark.parametrize("field", [_mode("single-uid")], indirect=True, scope="module")
@pytest.mark.parametrize("attempt", [_who(attempt) for attempt in ATTEMPTS.values()])
def test_the_same_code_outside_of_a_sandbox_succeeds(
    field: Field, outside: dict[str, Outside], attempt: Attempt
) -> None:
    answer = outside[attempt.control].run(attempt.name)
    if answer.get("errno") in (errno.ENOSYS, errno.EPROTONOSUPPORT) or (
        "TCP_ULP" in attempt.name and "errno" in answer
    ):
        pytest.skip("this kernel has no such thing")
    assert "done" in answer, answer
