"""The actuator's credentials: what is wrong with a set is known before it is needed; only a whole one is exposed."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import workers.credentials
from cardano.slots import NETWORKS
from config import load
from devkit import keys
from devkit.keys import KeySet
from ipc.messages import CertificateCounter, Check, NodeSample, Severity
from kernel.secretmem import SecretBuffer, read_secret
from policy import timing
from workers.credentials import CannotExpose, Credentials

NAMES = {"KES_KEY": "kes.skey", "VRF_KEY": "vrf.skey", "OP_CERT": "node.cert"}
PERIOD = keys.current_kes_period("mainnet")
EVOLUTIONS = NETWORKS["mainnet"].max_kes_evolutions


class Mount:
    """A secret's mount as Kubernetes makes it: `..data` leads to the set of the day."""

    def __init__(self, root: Path) -> None:
        self.root = root / "secrets"
        self.root.mkdir()
        self.shared = root / "ipc"
        self.shared.mkdir()
        self._count = 0

    def make(self, **how: int) -> KeySet:
        """Another set, not mounted yet."""
        self._count += 1
        made = keys.generate(self.root / f"..set{self._count}", seed=b"s" * 32, **{"kes_period": PERIOD, **how})
        made.cold.unlink()
        return made

    def swap(self, made: KeySet) -> None:
        """As the kubelet does: one rename."""
        link = self.root / "..data_tmp"
        link.symlink_to(made.folder.name)
        link.rename(self.root / "..data")
        for name in NAMES.values():
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(f"..data/{name}")

    def exposed(self) -> list[bytes]:
        return [path.read_bytes() for name in NAMES.values() if (path := self.shared / name).exists()]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path)


@pytest.fixture
async def looking(mount: Mount, tmp_path: Path) -> AsyncIterator[Callable[..., Credentials]]:
    """A Credentials that has looked at the mount."""
    opened: list[Credentials] = []

    def look(**settings: str) -> Credentials:
        environment = {
            **{f"SOURCE_{variable}": str(mount.root / name) for variable, name in NAMES.items()},
            **{f"TARGET_{variable}": str(mount.shared / name) for variable, name in NAMES.items()},
            "RUN_DIR": str(tmp_path / "run"),
            "POD_NAME": "pod-0",
            "CREDENTIAL_MODE": "file",
            **settings,
        }
        (tmp_path / "run" / "actuator").mkdir(parents=True, exist_ok=True)
        made = Credentials(load(environment), lambda: None)
        opened.append(made)
        made.look(0)
        return made

    yield look
    for each in opened:
        each.close()


def again(credentials: Credentials) -> None:
    """The next look."""
    credentials.look(10**18)
    credentials._look_at = 0


def content(made: KeySet) -> list[bytes]:
    return [(made.folder / name).read_bytes() for name in NAMES.values()]


async def test_where_the_keys_could_not_be_written_the_pod_says_so_before_they_are_wanted(
    mount: Mount, looking: Callable[..., Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose /run is full led, failed to arm, and counted as ready again."""
    mount.swap(mount.make())
    credentials = looking(CREDENTIAL_MODE="ephemeral")
    assert credentials.targets_problem == ""
    real = os.statvfs
    full = [*real(mount.root)]
    full[4] = 1  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(full))
    again(credentials)
    assert "no room" in credentials.targets_problem
    monkeypatch.setattr(os, "statvfs", real)
    again(credentials)
    credentials.expose("armed")
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(full))
    again(credentials)
    assert credentials.targets_problem == "", "what is there already is there"
    full[2] = full[4] = 0  # f_blocks: a tmpfs without a limit
    credentials.withdraw("enough")
    again(credentials)
    assert credentials.targets_problem == ""


async def test_a_good_set_may_be_installed_and_says_until_when_it_is_good(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    made = mount.make(counter=4)
    mount.swap(made)
    credentials = looking(POOL_ID=made.pool_id)
    assert (credentials.sources_problem, credentials.unfit) == ("", ())
    assert credentials.certificate is not None
    assert (credentials.certificate.counter, credentials.certificate.periods_left) == (4, EVOLUTIONS)
    credentials.expose("armed")
    assert mount.exposed() == content(made)
    credentials.withdraw("enough")
    assert mount.exposed() == []


@pytest.mark.parametrize("why", ["bootstrap", "armed"])
@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda made: made.kes.unlink(), Check.KES_KEY),
        (lambda made: made.vrf.unlink(), Check.VRF_KEY),
        (lambda made: made.cert.unlink(), Check.CERTIFICATE),
        (lambda made: made.vrf.replace(made.kes), Check.KES_KEY),
        (lambda made: os.truncate(made.cert, 300), Check.CERTIFICATE),
        (lambda made: made.cert.write_bytes(b" " * 70_000), Check.CERTIFICATE),
        (lambda made: keys.generate(made.folder / "other").kes.replace(made.kes), Check.MATCH),
        (lambda made: keys.generate(made.folder / "other", kes_period=PERIOD).cert.replace(made.cert), Check.POOL),
    ],
)
async def test_a_set_with_which_no_node_of_this_pool_could_start_is_never_installed(
    mount: Mount,
    looking: Callable[..., Credentials],
    spoil: Callable[[KeySet], object],
    check: Check,
    why: str,
) -> None:
    made = mount.make()
    mount.swap(made)
    made.kes.chmod(0o600)
    spoil(made)
    credentials = looking(POOL_ID=made.pool_id)
    assert check in {finding.check for finding in credentials.findings if finding.severity is Severity.ERROR}
    assert credentials.sources_problem
    with pytest.raises(CannotExpose) as refused:
        credentials.expose(why)
    assert str(refused.value) == credentials.sources_problem
    assert mount.exposed() == []


@pytest.mark.parametrize("period", [PERIOD + 1, PERIOD - EVOLUTIONS])
async def test_with_a_set_that_is_not_good_now_a_node_may_start_and_none_is_armed(
    mount: Mount, looking: Callable[..., Credentials], period: int
) -> None:
    mount.swap(mount.make(kes_period=period))
    credentials = looking()
    assert credentials.sources_problem == ""
    assert "KES period" in credentials.unfit[0]
    credentials.expose("bootstrap")
    credentials.withdraw("read")
    with pytest.raises(CannotExpose, match="KES period"):
        credentials.expose("armed")
    assert mount.exposed() == []


async def test_a_rotation_is_seen_at_the_next_look_and_installed_as_a_whole(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    mount.swap(mount.make(counter=1))
    credentials = looking()
    second = mount.make(counter=2)
    mount.swap(second)
    again(credentials)
    assert credentials.certificate is not None
    assert credentials.certificate.counter == 2
    credentials.expose("armed")
    assert mount.exposed() == content(second)


async def test_another_set_in_the_secret_is_offered_to_an_armed_node_only_and_once(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    mount.swap(mount.make(counter=1))
    credentials = looking()
    credentials.expose("bootstrap")
    second = mount.make(counter=2)
    mount.swap(second)
    again(credentials)
    assert not credentials.rotated
    credentials.withdraw("read")
    credentials.expose("armed")
    again(credentials)
    assert not credentials.rotated
    third = mount.make(counter=3)
    mount.swap(third)
    again(credentials)
    assert credentials.rotated
    assert mount.exposed() == content(second)
    credentials.expose("rotated")
    assert mount.exposed() == content(third)
    assert not credentials.rotated
    again(credentials)
    assert not credentials.rotated
    credentials.withdraw("enough")
    mount.swap(mount.make(counter=4))
    again(credentials)
    assert not credentials.rotated


async def test_the_same_set_written_anew_is_no_rotation(mount: Mount, looking: Callable[..., Credentials]) -> None:
    mount.swap(mount.make(counter=1))
    credentials = looking()
    credentials.expose("armed")
    mount.swap(mount.make(counter=1))
    again(credentials)
    assert not credentials.rotated


@pytest.mark.parametrize("how", [{"kes_period": 0}, {"kes_period": PERIOD + 1}, {"counter": 4}])
async def test_a_worse_set_is_not_offered_to_the_node_that_forges(
    mount: Mount, looking: Callable[..., Credentials], how: dict[str, int]
) -> None:
    first = mount.make(counter=5)
    mount.swap(first)
    credentials = looking()
    credentials.expose("armed")
    mount.swap(mount.make(**{"counter": 5, **how}))
    again(credentials)
    assert not credentials.rotated
    assert mount.exposed() == content(first)
    assert credentials.findings[0].severity in (Severity.ERROR, Severity.WARNING)
    assert credentials.findings[0].remedy


async def test_an_older_counter_is_taken_once_the_node_is_armed_anew(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    """It may be the right one: that of the node was too high."""
    mount.swap(mount.make(counter=9))
    credentials = looking()
    credentials.expose("armed")
    second = mount.make(counter=5)
    mount.swap(second)
    again(credentials)
    assert [finding.check for finding in credentials.findings if finding.severity is Severity.WARNING] == [
        Check.COUNTER
    ]
    credentials.withdraw("handed over")
    credentials.expose("armed")
    assert mount.exposed() == content(second)


@pytest.mark.parametrize("bad", [{"kes_period": 0}])
async def test_a_set_that_went_bad_between_the_look_and_the_replacement_leaves_the_old_one(
    mount: Mount, looking: Callable[..., Credentials], bad: dict[str, int]
) -> None:
    first = mount.make(counter=1)
    mount.swap(first)
    credentials = looking()
    credentials.expose("armed")
    mount.swap(mount.make(counter=2))
    again(credentials)
    mount.swap(mount.make(**bad))
    with pytest.raises(CannotExpose):
        credentials.expose("rotated")
    assert mount.exposed() == content(first)


async def test_a_set_that_is_replaced_in_halves_is_not_installed_meanwhile(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    made = mount.make()
    mount.swap(made)
    credentials = looking()
    other = keys.generate(mount.root / "other", kes_period=PERIOD)
    other.kes.replace(made.kes)
    with pytest.raises(CannotExpose, match="another KES key"):
        credentials.expose("armed")  # though nobody has looked since
    assert mount.exposed() == []
    again(credentials)
    assert "another KES key" in credentials.sources_problem
    other.cert.replace(made.cert)
    again(credentials)
    assert credentials.sources_problem == ""


async def test_a_rotation_in_the_middle_of_a_look_is_looked_at_again(
    mount: Mount, looking: Callable[..., Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount.swap(mount.make(counter=1))
    credentials = looking()
    second, third = mount.make(counter=2), mount.make(counter=3)
    mount.swap(second)

    def overtaken(path: Path, most: int) -> SecretBuffer:
        read = read_secret(path, most)
        if path.name == "node.cert":
            monkeypatch.setattr(workers.credentials, "read_secret", read_secret)
            mount.swap(third)
        return read

    monkeypatch.setattr(workers.credentials, "read_secret", overtaken)
    credentials.look(timing.SECOND * 100)
    credentials.look(timing.SECOND * 100)  # at once: no time has passed
    assert credentials.certificate is not None
    assert credentials.certificate.counter == 3


async def test_nothing_is_read_while_nothing_changes_and_what_could_not_be_read_is_tried_again(
    mount: Mount, looking: Callable[..., Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount.swap(mount.make())
    credentials = looking()
    reads: list[Path] = []
    failing = True

    def counting(path: Path, most: int) -> SecretBuffer:
        reads.append(path)
        if failing:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read_secret(path, most)

    monkeypatch.setattr(workers.credentials, "read_secret", counting)
    again(credentials)
    assert reads == []
    os.utime(mount.root / "kes.skey", ns=(1, 1))
    again(credentials)
    assert "Input/output error; check the secret and its mount" in credentials.sources_problem
    failing = False
    again(credentials)
    assert credentials.sources_problem == ""
    seen = len(reads)
    again(credentials)
    assert len(reads) == seen


async def test_each_finding_is_logged_once_and_its_end_too(
    mount: Mount, looking: Callable[..., Credentials], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="actuator")
    made = mount.make(kes_period=0)
    mount.swap(made)
    credentials = looking()
    again(credentials)
    again(credentials)
    told = [record for record in caplog.records if getattr(record, "event", "") == "credential_finding"]
    assert len(told) == 1
    assert "--kes-period" in getattr(told[0], "remedy", "")
    mount.swap(mount.make())
    again(credentials)
    assert getattr(caplog.records[-1], "event", "") == "credentials_right"


async def test_nothing_that_is_said_of_any_file_has_a_secret_in_it(
    mount: Mount, looking: Callable[..., Credentials], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = mount.make()
    mount.swap(made)
    digits = [json.loads(path.read_bytes())["cborHex"] for path in (made.kes, made.vrf)]
    whole = {path: path.read_bytes() for path in (made.kes, made.vrf, made.cert)}
    credentials = looking()
    said: list[object] = []
    for path, raw in whole.items():
        path.chmod(0o600)
        for spoilt in (raw[:-9], raw[9:], raw[:200], raw * 2, raw.replace(b'"', b"'"), raw.replace(b"type", b"kind")):
            path.write_bytes(spoilt)
            again(credentials)
            said += [
                credentials.findings,
                credentials.certificate,
                credentials.sources_problem,
                repr(credentials._found),
            ]
            with pytest.raises(CannotExpose) as refused:
                credentials.expose("armed")
            said += [refused.value, repr(refused.value), refused.value.__context__, refused.value.__cause__]
        path.write_bytes(raw)
    text = str(said) + caplog.text + str([vars(record) for record in caplog.records])
    for secret in (digits[0][6:70], digits[0][70:134], digits[1][4:68]):
        assert not any(secret[at : at + 10] in text for at in range(0, len(secret) - 10, 2))


# --- what is known of the counter, and what the node says ---


@pytest.mark.parametrize(("recorded", "fit"), [(None, True), (4, True), (5, True), (6, False), (3, False)])
async def test_a_counter_that_the_ledger_would_reject_keeps_the_pod_from_contending(
    mount: Mount, looking: Callable[..., Credentials], recorded: int | None, fit: bool
) -> None:
    made = mount.make(counter=5)
    mount.swap(made)
    credentials = looking(LEASE_NAME="the-lease", NAMESPACE="here")
    credentials.hear_counters(None if recorded is None else CertificateCounter(recorded, made.pool_id))
    credentials.look(timing.SECOND)  # at once: what was heard is a reason to look
    assert (credentials.unfit == ()) is fit
    assert credentials.sources_problem == ""
    if not fit:
        remedy = next(finding.remedy for finding in credentials.findings if finding.check is Check.COUNTER)
        assert "kubectl annotate --overwrite lease -n here the-lease cardano.io/opcert-counter=" in remedy
        with pytest.raises(CannotExpose):
            credentials.expose("armed")


async def test_what_was_recorded_of_another_pool_is_held_against_nobody_and_a_bare_number_against_all(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    mount.swap(mount.make(counter=5))
    credentials = looking()
    credentials.hear_counters(CertificateCounter(9, "pool1" + "a" * 51))
    credentials.look(timing.SECOND)
    assert credentials.unfit == ()
    credentials.hear_counters(None, CertificateCounter(9, ""))
    credentials.look(timing.SECOND)
    assert credentials.unfit


def node_says(adopted: int, kes_start: int = PERIOD) -> NodeSample:
    return NodeSample(7, 1, 2, True, 1, 1, 1, 1, 50, kes_start=kes_start, adopted=adopted)


async def test_the_counter_of_a_block_that_was_made_counts_though_nobody_has_recorded_it(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    mount.swap(mount.make(counter=5))
    credentials = looking()
    credentials.expose("armed")
    for adopted in (1, 2):
        credentials.hear_node(timing.SECOND, node_says(adopted), forging=True)
    assert credentials.counter_used is not None
    assert credentials.counter_used.counter == 5
    credentials.hear_counters(None)
    mount.swap(mount.make(counter=7))
    again(credentials)
    assert Check.COUNTER in {finding.check for finding in credentials.findings if finding.severity is Severity.ERROR}
    assert not credentials.rotated


async def test_a_lower_counter_that_is_written_down_after_ours_is_an_operators_word_and_counts(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    pool = mount.make(counter=7)
    mount.swap(pool)
    credentials = looking()
    credentials.expose("armed")
    for adopted in (1, 2):
        credentials.hear_node(timing.SECOND, node_says(adopted), forging=True)
    ours = credentials.counter_used
    assert ours is not None
    mount.swap(mount.make(counter=4))
    credentials.hear_counters(CertificateCounter(4, ours.pool_id))  # what was there before our block
    again(credentials)
    assert Check.COUNTER in {finding.check for finding in credentials.findings if finding.severity is Severity.ERROR}
    credentials.hear_counters(ours)
    credentials.hear_counters(CertificateCounter(4, ours.pool_id))
    again(credentials)
    assert credentials.counter_used is None
    assert Check.COUNTER not in {each.check for each in credentials.findings if each.severity is Severity.ERROR}
    credentials.hear_node(timing.SECOND, node_says(3), forging=True)
    assert credentials.counter_used == ours, "a block made with it says otherwise"


async def test_a_node_that_rejected_the_new_set_is_found_out_by_its_metrics(
    mount: Mount, looking: Callable[..., Credentials]
) -> None:
    mount.swap(mount.make(counter=5, kes_period=PERIOD - 1))
    credentials = looking()
    credentials.expose("armed")
    mount.swap(mount.make(counter=6))
    again(credentials)
    credentials.expose("rotated")
    for now in (1, 200):
        credentials.hear_node(now * timing.SECOND, node_says(now, PERIOD - 1), forging=True)
    again(credentials)
    assert Check.IN_USE in {finding.check for finding in credentials.findings}
    assert credentials.counter_used is None


async def test_a_set_that_expires_while_the_node_forges_with_it_is_said_to_be_spent(
    mount: Mount, looking: Callable[..., Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount.swap(mount.make(counter=5, kes_period=PERIOD - EVOLUTIONS + 1))
    credentials = looking()
    credentials.expose("armed")
    again(credentials)
    assert credentials.spent == ""
    end = credentials.certificate.expires_at if credentials.certificate is not None else None
    assert end is not None
    monkeypatch.setattr(workers.credentials.time, "time", lambda: end + 1)  # type: ignore[attr-defined]
    again(credentials)
    assert "expired" in credentials.spent
    credentials.withdraw("fenced")
    assert credentials.spent == ""


@pytest.mark.parametrize(("mode", "open_"), [(0o400, False), (0o440, False), (0o444, True), (0o660, True)])
async def test_a_source_that_everybody_can_read_is_a_warning_and_no_obstacle(
    mount: Mount, looking: Callable[..., Credentials], mode: int, open_: bool
) -> None:
    made = mount.make()
    mount.swap(made)
    made.kes.chmod(mode)
    credentials = looking()
    found = [finding for finding in credentials.findings if finding.check is Check.PERMISSIONS]
    assert bool(found) is open_
    assert (credentials.sources_problem, credentials.unfit) == ("", ())
    assert all("defaultMode" in finding.remedy and finding.severity is Severity.WARNING for finding in found)


@pytest.mark.parametrize("how", ["swap", "write", "move"])
async def test_a_change_in_the_mount_is_a_reason_to_look_at_once(
    mount: Mount, looking: Callable[..., Credentials], how: str
) -> None:
    first, second = mount.make(counter=1), mount.make(counter=2)
    if how == "swap":
        mount.swap(first)
        credentials = looking()
        mount.swap(second)
    else:
        plain = {f"SOURCE_{variable}": str(first.folder / name) for variable, name in NAMES.items()}
        credentials = looking(**plain)
        if how == "write":
            for path in (first.kes, first.cert):
                path.chmod(0o600)
                path.write_bytes((second.folder / path.name).read_bytes())
        else:
            second.kes.rename(first.kes)
            second.cert.rename(first.cert)
    credentials._on_events()
    credentials.look(1)
    assert credentials.certificate is not None
    assert credentials.certificate.counter == 2


# --- the audit trail ---


def trail_of(credentials: Credentials, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Operation, reason, outcome of what was noted since."""
    caplog.set_level(logging.INFO)
    caplog.clear()
    credentials._trail.write()
    told = [vars(record) for record in caplog.records if vars(record).get("event") == "credential_operation"]
    return [(each["operation"], each["why"], each["outcome"]) for each in told]


@pytest.mark.parametrize("mode", ["file", "ephemeral"])
async def test_every_operation_is_in_the_audit_trail_with_what_is_public_of_the_certificate(
    mode: str, mount: Mount, looking: Callable[..., Credentials], caplog: pytest.LogCaptureFixture
) -> None:
    here = Path.cwd()
    try:
        mount.swap(mount.make(counter=4))
        credentials = looking(CREDENTIAL_MODE=mode)
        credentials.expose("bootstrap")
        credentials.withdraw("the node has read them")
        credentials.expose("armed")
        mount.swap(mount.make(counter=5))
        again(credentials)
        credentials.expose("rotated")
        credentials.withdraw("no grant from the elector")
        credentials.withdraw("again: nothing is there")
        assert trail_of(credentials, caplog) == [
            ("offer", "bootstrap", "done"),
            ("withdraw", "the node has read them", "done"),
            ("install", "armed", "done"),
            ("replace", "rotated", "done"),
            ("remove", "no grant from the elector", "done"),
        ]
    finally:
        os.chdir(here)
    counters = [vars(record)["counter"] for record in caplog.records if hasattr(record, "operation")]
    assert counters == [4, None, 4, 5, 5]
    assert all(
        set(vars(record)["files"]) == set(NAMES.values()) for record in caplog.records if hasattr(record, "files")
    )


async def test_what_could_not_be_installed_is_in_the_audit_trail_with_the_reason(
    mount: Mount, looking: Callable[..., Credentials], caplog: pytest.LogCaptureFixture
) -> None:
    made = mount.make()
    mount.swap(made)
    credentials = looking()
    made.vrf.unlink()
    with pytest.raises(CannotExpose) as refusal:
        credentials.expose("armed")
    assert trail_of(credentials, caplog) == [("install", "armed", f"refused: {refusal.value}")]


@pytest.mark.parametrize("mode", ["file", "ephemeral"])
async def test_a_new_life_says_what_it_found_of_the_one_before(
    mode: str, mount: Mount, looking: Callable[..., Credentials], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    here = Path.cwd()
    try:
        mount.swap(mount.make())
        first = looking(CREDENTIAL_MODE=mode)
        first._trail.write()
        assert not [record for record in caplog.records if vars(record).get("event") == "earlier_life"]
        first.expose("armed")  # and it dies
        second = looking(CREDENTIAL_MODE=mode)
        second._trail.write()
    finally:
        os.chdir(here)
    (found,) = [vars(record) for record in caplog.records if vars(record).get("event") == "earlier_life"]
    assert set(found["files"]) == set(NAMES.values())
    assert found["pid"] == (os.getpid() if mode == "ephemeral" else 0)
    assert (found["audit"], found["levelname"]) == (True, "WARNING")
