"""From a declaration to rules, and what would be left open by an accident of paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.messages import Worker
from sandbox import plan
from sandbox.landlock import Access, Scope
from sandbox.places import Secret
from sandbox.plan import READ, PathRule, Plan, exposed, make
from sandbox.privileges import Peer, Place, Port, Privileges
from sandbox.syscalls import Calls

PLACES = {place: (Path("/at") / place.name,) for place in Place}
MAKING = Access.MAKE_REG | Access.MAKE_DIR | Access.MAKE_SYM | Access.MAKE_SOCK | Access.MAKE_FIFO
WRITING = Access.WRITE_FILE | Access.TRUNCATE | Access.REMOVE_DIR | Access.REMOVE_FILE | MAKING
PLAIN = Privileges(Worker.GATEWAY, frozenset({Calls.PYTHON}))
ACTUATOR = Privileges(
    Worker.ACTUATOR,
    frozenset({Calls.PYTHON}),
    reads=frozenset({Place.SOURCES}),
    writes=frozenset({Place.OWN, Place.TARGETS}),
    signals=True,
)
ELECTOR = Privileges(
    Worker.ELECTOR,
    frozenset({Calls.PYTHON}),
    reads=frozenset({Place.API_CREDENTIALS, Place.NAMES}),
    writes=frozenset({Place.OWN}),
    connects=(Port.API,),
    names=True,
)


def planned(privileges: Privileges, *, ports: tuple[int, ...] = (), names: bool = False, plain: bool = False) -> Plan:
    return make(
        privileges,
        installation=[Path("/usr/lib"), Path("/proc")],
        places=PLACES,
        ports=ports,
        names=names,
        plain_targets=plain,
        peers={peer: (Path("/of") / peer.name,) for peer in Peer},
    )


def rights(made: Plan, place: Place | Peer) -> Access | None:
    found = {rule.rights for rule in made.rules if rule.place is place}
    return found.pop() if found else None


def test_the_installation_is_everybodys_to_read_and_nobodys_to_write_or_execute() -> None:
    for privileges in (PLAIN, ACTUATOR, ELECTOR):
        made = planned(privileges)
        assert {rule.path: rule.rights for rule in made.rules if rule.place is None} == {
            Path("/usr/lib"): READ,
            Path("/proc"): READ,
        }
        assert all(Access.EXECUTE not in rule.rights for rule in made.rules)


def test_what_is_not_declared_gets_no_rule() -> None:
    assert {rule.place for rule in planned(PLAIN).rules} == {None}


def test_what_is_read_is_never_written() -> None:
    assert rights(planned(ACTUATOR), Place.SOURCES) == READ
    assert not rights(planned(ELECTOR), Place.API_CREDENTIALS) & WRITING  # type: ignore[operator]


def test_its_own_folder_takes_files_and_folders_but_no_links_sockets_or_devices() -> None:
    own = rights(planned(ELECTOR), Place.OWN)
    assert own is not None
    assert Access.MAKE_REG in own
    assert not own & (Access.MAKE_SYM | Access.MAKE_SOCK | Access.MAKE_FIFO | Access.MAKE_CHAR | Access.MAKE_BLOCK)


def test_target_paths_take_links_only_and_are_not_read() -> None:
    assert rights(planned(ACTUATOR), Place.TARGETS) == Access.READ_DIR | Access.MAKE_SYM | Access.REMOVE_FILE


def test_target_paths_take_files_where_they_are_to_be_files() -> None:
    targets = rights(planned(ACTUATOR, plain=True), Place.TARGETS)
    assert targets is not None
    assert Access.MAKE_REG | Access.WRITE_FILE | Access.READ_FILE in targets
    assert not targets & (Access.MAKE_DIR | Access.REMOVE_DIR | Access.REFER)


def test_only_who_signals_keeps_the_signals() -> None:
    assert planned(ACTUATOR).scopes == Scope.ABSTRACT_SOCKETS
    assert planned(ELECTOR).scopes == Scope.ABSTRACT_SOCKETS | Scope.SIGNALS


def test_names_are_looked_up_only_where_an_address_is_one() -> None:
    numbers = planned(ELECTOR, ports=(6443,))
    assert numbers.ports == (6443,)
    assert rights(numbers, Place.NAMES) is None
    assert not {"clone", "sendmmsg"} & {permit.call for permit in numbers.permits}
    named = planned(ELECTOR, ports=(6443,), names=True)
    assert named.ports == (53, 6443)
    assert rights(named, Place.NAMES) == READ
    assert {"clone", "sendmmsg"} <= {permit.call for permit in named.permits}


def test_who_may_not_look_up_names_does_not_even_where_an_address_is_one() -> None:
    made = planned(replace(ELECTOR, names=False), ports=(6443,), names=True)
    assert made.ports == (6443,)
    assert rights(made, Place.NAMES) is None


def test_sockets_are_connected_to_where_they_are_declared_and_nothing_else_is_left_there() -> None:
    assert rights(planned(PLAIN), Peer.FOLLOWED) is None
    follower = replace(PLAIN, subscribes=frozenset({Worker.PROBER}))
    assert rights(planned(follower), Peer.FOLLOWED) == Access.RESOLVE_UNIX
    assert rights(planned(follower), Peer.NODE) is None
    assert rights(planned(replace(PLAIN, node_socket=True)), Peer.NODE) == Access.RESOLVE_UNIX


def test_datagrams_are_sent_to_name_servers_by_who_looks_up_names() -> None:
    assert planned(ELECTOR, ports=(6443,)).datagrams == ()
    assert planned(ELECTOR, ports=(6443,), names=True).datagrams == (53,)
    assert planned(replace(ELECTOR, names=False), names=True).datagrams == ()


# --- what would be left open ---


def a_plan(*paths: str) -> Plan:
    rules = tuple(PathRule(Path(path), READ, None) for path in paths)
    return Plan(rules, (), Scope(0), (), dumpable=False)


KES = Secret("SOURCE_KES_KEY", Path("/usr/keys/kes.skey"), Place.SOURCES)
VRF = Secret("SOURCE_VRF_KEY", Path("/usr/keys/vrf.skey"), Place.SOURCES)
TOKEN = Secret("the service account's token", Path("/run/token"), Place.API_CREDENTIALS)
FOLDER = Secret("the elector's folder", Path("/run/forge/elector"), Place.OWN, Worker.ELECTOR)


def test_secrets_under_one_rule_are_told_in_one_line() -> None:
    assert exposed(a_plan("/usr", "/lib"), PLAIN, [KES, VRF, TOKEN]) == (
        "/usr, which the gateway may use, leads to SOURCE_KES_KEY (/usr/keys/kes.skey), SOURCE_VRF_KEY "
        "(/usr/keys/vrf.skey), which it must not have; mount these elsewhere",
    )


def test_each_rule_has_a_line_and_each_secret_is_told_once() -> None:
    said = exposed(a_plan("/usr", "/usr/keys", "/run"), PLAIN, [KES, VRF, TOKEN])
    assert [line.split(",")[0] for line in said] == ["/usr", "/run"]
    assert said[1].endswith("mount it elsewhere")
    assert sum(line.count("SOURCE_KES_KEY") for line in said) == 1


def test_what_is_declared_is_not_told() -> None:
    assert exposed(a_plan("/usr"), ACTUATOR, [KES, VRF]) == ()
    assert exposed(a_plan("/run"), ELECTOR, [FOLDER, TOKEN]) == ()


def test_a_folder_beside_a_secret_leaves_it_alone() -> None:
    assert exposed(a_plan("/usr/keys/kes", "/usr/key", "/usr/keys/kes.skey.old"), PLAIN, [KES]) == ()


def test_a_siblings_folder_is_told_even_where_only_part_of_it_is_open() -> None:
    assert exposed(a_plan("/run/forge/elector/lib"), PLAIN, [FOLDER]) != ()


def test_where_a_link_leads_counts() -> None:
    linked = replace(KES, path=Path("/secrets/kes.skey"), also=(Path("/usr/share/kes.skey"),))
    (line,) = exposed(a_plan("/usr/share"), PLAIN, [linked])
    assert "SOURCE_KES_KEY (/secrets/kes.skey)" in line


segments = st.lists(st.sampled_from("abc"), max_size=4).map(lambda parts: Path("/", *parts))
secrets = st.builds(
    Secret,
    name=st.sampled_from(["one", "two", "three"]),
    path=segments,
    place=st.sampled_from(Place),
    owner=st.none() | st.sampled_from(Worker),
    also=st.lists(segments, max_size=2).map(tuple),
)
privileges = st.builds(
    Privileges, worker=st.sampled_from(Worker), calls=st.just(frozenset()), reads=st.frozensets(st.sampled_from(Place))
)


def reaches(rule: Path, secret: Secret) -> bool:
    """Some file is below (or is) the rule's path and one of the secret's."""
    for location in secret.locations:
        shorter = min(len(rule.parts), len(location.parts))
        below = len(rule.parts) <= len(location.parts) or secret.owner is not None
        if rule.parts[:shorter] == location.parts[:shorter] and below:
            return True
    return False


@given(st.lists(segments, max_size=4), st.lists(secrets, max_size=4), privileges)
def test_no_plan_without_a_message_leads_to_a_secret(
    paths: list[Path], hidden: list[Secret], declaration: Privileges
) -> None:
    made = a_plan(*map(str, paths))
    said = exposed(made, declaration, hidden)
    open_ones = [s for s in hidden if not plan.declared(declaration, s) and any(reaches(path, s) for path in paths)]
    assert bool(said) is bool(open_ones)
    for secret in open_ones:
        assert any(f"{secret.name} ({secret.path})" in line for line in said)
    assert len(said) == len({line.split(",")[0] for line in said})


def test_a_folder_in_which_sockets_are_only_connected_to_is_not_open() -> None:
    made = planned(replace(PLAIN, subscribes=frozenset({Worker.ELECTOR})))
    folder = replace(FOLDER, path=Path("/of") / Peer.FOLLOWED.name)
    assert exposed(made, PLAIN, [folder]) == ()


@pytest.mark.parametrize("worker", Worker)
def test_a_worker_is_never_told_of_its_own_folder(worker: Worker) -> None:
    mine = Secret("mine", Path("/run/x"), Place.OWN, worker)
    assert exposed(a_plan("/run/x"), Privileges(worker, frozenset()), [mine]) == ()
