"""From the meaning of a place to paths: on odd file systems, nothing undeclared comes to lie in what is left open."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from locked_up import alone

from config import Config, load
from devkit.privileges import DECLARED
from ipc.messages import Worker
from kernel.process import prctl
from sandbox import landlock, places, plan
from sandbox.landlock import Ruleset
from sandbox.places import Endpoint
from sandbox.plan import Plan
from sandbox.privileges import Peer, Place

PRIVILEGES = {declaration.worker: declaration for declaration in DECLARED}


@pytest.fixture
def root() -> Iterator[Path]:
    """Outside every folder that is too wide to be left open as such; its own name holds no link."""
    with tempfile.TemporaryDirectory(prefix="places-", dir="/tmp") as name:
        yield Path(name).resolve()


def configured(root: Path, **more: Path | str) -> Config:
    """Everything below `root`, as a pod mounts it."""
    given_paths = {
        "SOURCE_KES_KEY": root / "secrets/kes.skey",
        "SOURCE_VRF_KEY": root / "secrets/vrf.skey",
        "SOURCE_OP_CERT": root / "secrets/node.cert",
        "TARGET_KES_KEY": root / "ipc/kes.skey",
        "TARGET_VRF_KEY": root / "ipc/vrf.skey",
        "TARGET_OP_CERT": root / "ipc/node.cert",
        "RUN_DIR": root / "run",
        "KUBECONFIG": root / "api/kubeconfig",
    } | more
    return load({name: str(path) for name, path in given_paths.items()})


def made(config: Config, *paths: Path) -> None:
    """The files and folders of a configuration, and further files."""
    files = [config.source_kes_key, config.source_vrf_key, config.source_op_cert, *paths]
    if config.kubeconfig is not None:
        files.append(config.kubeconfig)
    for folder in (*places.targets(config), *(config.worker_dir(worker) for worker in Worker)):
        folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text("secret")


def planned(worker: Worker, config: Config, installation: tuple[Path, ...] = ()) -> Plan:
    declaration = PRIVILEGES[worker]
    endpoint = None
    if declaration.api_token and config.kubeconfig is not None:
        endpoint = Endpoint(("127.0.0.1",), (6443,), (config.kubeconfig,))
    reach = {p: places.paths(p, worker, config, endpoint) for p in declaration.reads | declaration.writes}
    return plan.make(
        declaration,
        installation=installation,
        places=reach,
        ports=(),
        names=False,
        plain_targets=False,
        peers=places.sockets(declaration, config, containers=False),
    )


def said(worker: Worker, config: Config, installation: tuple[Path, ...] = ()) -> tuple[str, ...]:
    return plan.exposed(planned(worker, config, installation), PRIVILEGES[worker], places.secrets(config))


def rules(worker: Worker, config: Config, place: Place) -> set[Path]:
    return {rule.path for rule in planned(worker, config).rules if rule.place is place}


# --- what the installation is ---


def test_the_installation_has_the_interpreter_and_our_packages_and_no_secret_places() -> None:
    found = places.installation()
    for needed in (Path(sys.base_prefix), Path(places.__file__).parent, Path("/proc"), Path(os.__file__)):
        real = needed.resolve()
        assert any(real == path or path in real.parents for path in found), needed
    for path in found:
        assert path not in {Path("/"), Path("/etc"), Path("/home"), Path("/root"), Path("/tmp"), Path("/run")}


def test_no_path_of_the_installation_lies_below_another() -> None:
    found = places.installation()
    assert not [path for path in found for other in found if other in path.parents]


@pytest.mark.parametrize("path", ["/", "//", "/usr/../", "relative", ""])
def test_a_pythonpath_to_the_root_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    before = places.installation()
    monkeypatch.setenv("PYTHONPATH", path)
    assert places.installation() == before


def test_neither_does_one_by_a_link(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    (root / "way").symlink_to("/")
    monkeypatch.setenv("PYTHONPATH", str(root / "way"))
    assert Path("/") not in places.installation()
    assert not any(path == root / "way" for path in places.installation())


def test_a_pythonpath_over_the_secrets_is_told(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    config = configured(root)
    made(config)
    monkeypatch.setenv("PYTHONPATH", str(root))
    (line,) = said(Worker.GATEWAY, config, places.installation())
    for name in ("SOURCE_KES_KEY", "SOURCE_VRF_KEY", "SOURCE_OP_CERT", "KUBECONFIG", "the elector's folder"):
        assert name in line
    assert "the gateway's folder" not in line


def test_an_installation_in_a_home_leaves_the_home_alone(root: Path) -> None:
    config = configured(root / "home/pool")
    made(config)
    assert said(Worker.GATEWAY, config, (root / "home/pool/venv",)) == ()


# --- where secrets lie ---


def test_sockets_are_where_those_who_serve_them_have_their_folders(root: Path) -> None:
    config = configured(root, NODE_SOCKET=root / "ipc/node.socket")
    found = places.sockets(PRIVILEGES[Worker.PROBER], config, containers=False)
    assert found == {Peer.NODE: (root / "ipc",), Peer.FOLLOWED: (root / "run/actuator", root / "run/arbiter")}
    found = places.sockets(PRIVILEGES[Worker.PROBER], config, containers=True)
    assert found[Peer.FOLLOWED] == (root / "run",), "a container that starts first finds no other's folder"


def test_a_nodes_socket_that_is_a_link_is_also_where_the_link_leads(root: Path) -> None:
    (root / "ipc").mkdir()
    (root / "ipc/node.socket").symlink_to(root / "elsewhere/socket")
    config = configured(root, NODE_SOCKET=root / "ipc/node.socket")
    found = places.sockets(PRIVILEGES[Worker.PROBER], config, containers=False)
    assert found[Peer.NODE] == (root / "elsewhere", root / "ipc")


def test_each_in_its_own_folder_is_nobodys_accident(root: Path) -> None:
    config = configured(root)
    made(config)
    for worker in Worker:
        assert said(worker, config) == ()
    assert rules(Worker.ACTUATOR, config, Place.SOURCES) == {root / "secrets"}
    assert rules(Worker.ELECTOR, config, Place.API_CREDENTIALS) == {root / "api"}
    assert rules(Worker.ELECTOR, config, Place.OWN) == {root / "run/elector"}


def test_the_gateways_token_and_key_are_its_own_and_their_folder_is_open_to_it_for_rotations(root: Path) -> None:
    named = {"GATEWAY_TOKEN_FILE": "token", "GATEWAY_TLS_CERT_FILE": "cert", "GATEWAY_TLS_KEY_FILE": "key"}
    config = configured(root, **{variable: root / "gateway" / name for variable, name in named.items()})
    made(config, *config.gateway_files.values())
    for worker in Worker:
        assert said(worker, config) == ()
    assert rules(Worker.GATEWAY, config, Place.GATEWAY) == {root / "gateway"}
    assert {secret.name for secret in places.secrets(config) if secret.place is Place.GATEWAY} == {
        "GATEWAY_TOKEN_FILE",
        "GATEWAY_TLS_KEY_FILE",
    }
    for worker in set(Worker) - {Worker.GATEWAY}:
        (line,) = said(worker, config, (root / "gateway",))
        assert "GATEWAY_TOKEN_FILE" in line
        assert "GATEWAY_TLS_CERT_FILE" not in line


def test_a_secret_below_the_installation_is_told_to_everybody_who_must_not_have_it(root: Path) -> None:
    config = configured(root, SOURCE_KES_KEY=root / "usr/keys/kes.skey")
    made(config)
    for worker in Worker:
        told = said(worker, config, (root / "usr",))
        assert bool(told) is (worker is not Worker.ACTUATOR)


def test_a_kubeconfig_beside_the_keys_leaves_files_open_not_their_folder(root: Path) -> None:
    config = configured(root, KUBECONFIG=root / "secrets/kubeconfig")
    made(config)
    names = ("kes.skey", "vrf.skey", "node.cert")
    assert rules(Worker.ACTUATOR, config, Place.SOURCES) == {root / "secrets" / name for name in names}
    assert rules(Worker.ELECTOR, config, Place.API_CREDENTIALS) == {root / "secrets/kubeconfig"}
    assert all(said(worker, config) == () for worker in Worker)


def test_a_run_dir_below_the_secrets_leaves_files_open_not_their_folder(root: Path) -> None:
    config = configured(root, RUN_DIR=root / "secrets/run")
    made(config)
    assert root / "secrets" not in rules(Worker.ACTUATOR, config, Place.SOURCES)
    assert all(said(worker, config) == () for worker in Worker)


def test_secrets_in_a_workers_folder_are_told_to_that_worker(root: Path) -> None:
    config = configured(root, SOURCE_KES_KEY=root / "run/elector/kes.skey")
    made(config)
    (line,) = said(Worker.ELECTOR, config)
    assert "SOURCE_KES_KEY" in line


def test_targets_above_run_dir_are_told_to_the_actuator(root: Path) -> None:
    config = configured(root, RUN_DIR=root / "ipc/run")
    made(config)
    (line,) = said(Worker.ACTUATOR, config)
    assert line.startswith(f"{root}/ipc, which the actuator may use, leads to the prober's folder")


def test_a_folder_that_is_everybodys_is_never_left_open_as_one() -> None:
    config = load(
        {"SOURCE_KES_KEY": "/run/kes.skey", "SOURCE_VRF_KEY": "/vrf.skey", "SOURCE_OP_CERT": "/etc/node.cert"}
    )
    found = rules(Worker.ACTUATOR, config, Place.SOURCES)
    assert {Path("/run/kes.skey"), Path("/vrf.skey"), Path("/etc/node.cert")} <= found
    assert not found & {Path("/run"), Path("/"), Path("/etc")}


# --- links ---


def mounted(folder: Path, *names: str) -> None:
    """As the kubelet mounts a secret: names -> ..data -> a folder of this moment."""
    now = folder / "..2026_01_01"
    now.mkdir(parents=True)
    (folder / "..data").symlink_to(now.name)
    for name in names:
        (now / name).write_text("secret")
        (folder / name).symlink_to(f"..data/{name}")


def test_a_mounted_secret_is_left_open_as_a_folder_so_that_its_next_version_is(root: Path) -> None:
    mounted(root / "secrets", "kes.skey", "vrf.skey", "node.cert")
    config = configured(root)
    made(config)
    assert root / "secrets" in rules(Worker.ACTUATOR, config, Place.SOURCES)
    assert all(said(worker, config) == () for worker in Worker)


def test_a_link_that_leads_below_the_installation_is_told(root: Path) -> None:
    config = configured(root)
    made(config, root / "usr/kes.skey")
    config.source_kes_key.unlink()
    config.source_kes_key.symlink_to(root / "usr/kes.skey")
    (line,) = said(Worker.GATEWAY, config, (root / "usr",))
    assert "SOURCE_KES_KEY" in line


def test_a_folder_by_a_link_is_told(root: Path) -> None:
    (root / "usr/keys").mkdir(parents=True)
    (root / "secrets").symlink_to("usr/keys")
    config = configured(root)
    made(config)
    (line,) = said(Worker.GATEWAY, config, (root / "usr",))
    assert "SOURCE_KES_KEY" in line
    assert said(Worker.ACTUATOR, config, (root / "usr",)) == ()


def test_target_folders_by_a_link_to_the_kubeconfig_are_told(root: Path) -> None:
    config = configured(root)
    (root / "api").mkdir()
    (root / "ipc").symlink_to("api")
    made(config)
    (line,) = said(Worker.ACTUATOR, config)
    assert "KUBECONFIG" in line


def test_a_kubeconfig_whose_folder_also_holds_a_link_to_a_key_is_left_open_as_a_file(root: Path) -> None:
    config = configured(root, SOURCE_KES_KEY=root / "api/kes.skey")
    made(config, root / "vault/kes.skey")
    config.source_kes_key.unlink()
    config.source_kes_key.symlink_to(root / "vault/kes.skey")
    assert rules(Worker.ELECTOR, config, Place.API_CREDENTIALS) == {root / "api/kubeconfig"}
    assert said(Worker.ELECTOR, config) == ()


def test_paths_that_do_not_exist_yet_are_planned_all_the_same(root: Path) -> None:
    config = configured(root)
    assert rules(Worker.ACTUATOR, config, Place.SOURCES) == {root / "secrets"}
    assert said(Worker.ACTUATOR, config) == ()


# --- whatever the paths ---

folder_names = st.sampled_from(["", "a", "b", "a/a", "a/b", "link", "link/a", "way", "way/b"])


@st.composite
def pods(draw: st.DrawFn) -> dict[str, str]:
    names = ("SOURCE_KES_KEY", "SOURCE_VRF_KEY", "SOURCE_OP_CERT", "KUBECONFIG", "TARGET_KES_KEY", "TARGET_OP_CERT")
    return {name: f"{draw(folder_names)}/{name}" for name in names} | {
        "RUN_DIR": draw(folder_names) + "/run",
        "installation": draw(st.sampled_from(["usr", "a/usr", "a", "b", "link", "way", "a/a"])),
        "link": draw(st.sampled_from(["a", "b", "a/a", "b/c"])),
        "way": draw(st.sampled_from(["a", "b", "link", "usr"])),
    }


def what_is_open(worker: str, config_of: dict[str, str], installation: str) -> list[str]:
    """Undeclared secrets that can be opened within the plan's rules, as Landlock has it."""
    config, which = load(config_of), Worker(worker)
    found = planned(which, config, (Path(installation),))
    hidden = [s for s in places.secrets(config) if not plan.declared(PRIVILEGES[which], s)]
    inside = {s.name: [s.path, *(s.path.rglob("*") if s.owner is not None else ())] for s in hidden}
    prctl(38, 1)
    ruleset = Ruleset(landlock.abi(), scopes=found.scopes)
    for rule in found.rules:
        ruleset.allow(rule.path, rule.rights)
    ruleset.restrict()
    return [name for name, paths in inside.items() if any(opens(path) for path in paths)]


def opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        assert error.errno in (errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.ELOOP), error
        return False
    return True


@pytest.mark.skipif(landlock.abi() == 0, reason="no Landlock here")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pods())
def test_no_plan_without_a_message_leaves_a_secret_open(pod: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="places-", dir="/tmp") as name:
        root = Path(name).resolve()
        for folder in ("a/a", "a/b", "b/c", "usr"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "link").symlink_to(pod["link"])
        (root / "way").symlink_to(pod["way"])
        variables = {name: root / path.lstrip("/") for name, path in pod.items() if name.isupper()}
        config = configured(root, **variables)
        try:
            made(config)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return  # one is a file where another needs a folder: no such pod
        for worker in Worker:
            (config.worker_dir(worker) / "inside").touch()
        described = {"TARGET_VRF_KEY": root / "ipc/vrf.skey"} | variables
        installation = (root / pod["installation"]).resolve()
        for worker in Worker:
            if not said(worker, config, (installation,)):
                environment = {name: str(path) for name, path in described.items()}
                assert alone(what_is_open, str(worker), environment, str(installation)) == []


# --- keys that lie where a node reads them ---


@pytest.mark.parametrize("mode", ["file", "ephemeral"])
def test_in_mode_file_nobody_but_the_actuator_is_let_into_a_folder_with_keys(root: Path, mode: str) -> None:
    beside = root / "ipc/schedule.json"
    config = configured(root, LEADERSHIP_SCHEDULE=beside, CREDENTIAL_MODE=mode)
    made(config, beside)
    opened = {rule.path for rule in planned(Worker.PROBER, config).rules if rule.opens}
    assert (root / "ipc" in opened) is (mode == "ephemeral")
    assert opened & {beside, root / "ipc"}
    guarded = (*places.secrets(config), *places.exposed_keys(config))
    for worker in Worker:
        assert plan.exposed(planned(worker, config), PRIVILEGES[worker], guarded) == ()


def test_a_rule_for_the_folder_of_exposed_keys_is_told(root: Path) -> None:
    config = configured(root, LEADERSHIP_SCHEDULE=root / "ipc", CREDENTIAL_MODE="file")
    made(config)
    guarded = (*places.secrets(config), *places.exposed_keys(config))
    (line,) = plan.exposed(planned(Worker.PROBER, config), PRIVILEGES[Worker.PROBER], guarded)
    assert "TARGET_KES_KEY" in line
    assert "TARGET_VRF_KEY" in line
