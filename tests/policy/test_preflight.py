"""What keeps a node from ever being armed: another user, fewer rights, other arguments."""

from __future__ import annotations

import pytest

from policy.preflight import Identity, cannot_be_ended, cannot_work_together, wrong_arguments

US = Identity((10001,) * 4, (10001,) * 4, 0)
WANTED = {
    "--shelley-kes-key": ("TARGET_KES_KEY", "/ipc/kes.skey"),
    "--shelley-vrf-key": ("TARGET_VRF_KEY", "/ipc/vrf.skey"),
}
RIGHT = {"--shelley-kes-key": "/ipc/kes.skey", "--shelley-vrf-key": "/ipc/vrf.skey"}


@pytest.mark.parametrize("ephemeral", [True, False])
def test_of_one_user_they_work_together(*, ephemeral: bool) -> None:
    assert cannot_work_together(US, US, ephemeral=ephemeral) == ""


@pytest.mark.parametrize(
    ("node", "word", "only_ephemeral"),
    [
        (Identity((0,) * 4, (10001,) * 4, 0), "runAsUser", False),
        (Identity((10001, 10001, 0, 10001), (10001,) * 4, 0), "runAsUser", False),
        (Identity((10001,) * 4, (1000,) * 4, 0), "runAsGroup", True),
        (Identity((10001,) * 4, (10001,) * 4, 0, nested=True), "--pid=host", True),
    ],
)
def test_what_keeps_them_apart_is_named_with_the_remedy(node: Identity, word: str, *, only_ephemeral: bool) -> None:
    assert word in cannot_work_together(US, node, ephemeral=True)
    assert bool(cannot_work_together(US, node, ephemeral=False)) is not only_ephemeral


def test_a_sidecar_with_more_capabilities_than_the_node_cannot_give_it_files() -> None:
    strong = Identity(US.uids, US.gids, 0b101)
    assert "mask 4" in cannot_work_together(strong, Identity(US.uids, US.gids, 0b001), ephemeral=True)
    assert cannot_work_together(US, strong, ephemeral=True) == ""


def test_a_node_that_is_process_1_here_could_not_be_killed_and_is_refused_with_the_remedy() -> None:
    assert "shareProcessNamespace: true" in cannot_be_ended(1)
    assert "--init" in cannot_be_ended(1)
    assert cannot_be_ended(2) == ""


def test_a_node_that_was_given_our_paths_is_fine() -> None:
    assert wrong_arguments(RIGHT, WANTED) == ("", ())


def test_a_node_that_was_given_no_keys_can_never_forge() -> None:
    problem, warnings = wrong_arguments({}, WANTED)
    assert "without --shelley-kes-key and --shelley-vrf-key:" in problem
    assert warnings == ()


def test_a_node_that_gets_its_keys_in_another_way_is_told_from_one_that_gets_none() -> None:
    problem, _ = wrong_arguments({"--shelley-kes-agent-socket": "/a", "--shelley-vrf-key": "/ipc/vrf.skey"}, WANTED)
    assert "without --shelley-kes-key (it has --shelley-kes-agent-socket)" in problem
    assert "CREDENTIAL_MODE" in problem


def test_another_path_is_a_warning_since_it_may_be_the_same_file() -> None:
    problem, (warning,) = wrong_arguments(RIGHT | {"--shelley-kes-key": "/keys/kes.skey"}, WANTED)
    assert problem == ""
    assert "--shelley-kes-key /keys/kes.skey" in warning
    assert "TARGET_KES_KEY is /ipc/kes.skey" in warning
