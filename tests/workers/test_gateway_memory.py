"""What the gateway's next life makes of its ledger: what was written, or nothing; never a fault of its own."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from gateway_pictures import ELECTOR, MANAGED, POOL, picture, state
from prometheus_client.parser import text_string_to_metric_families

from config import load
from devkit import states
from ipc.messages import Role, Worker
from kernel.clock import boottime_ns
from kernel.ledger import MOST, Ledger
from policy import timing
from workers import gateway
from workers.gateway import Gateway, Memory

from surroundings import FENCED, Surroundings


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger")
    yield made
    made.close()


def lived(ledger: Ledger | None) -> Memory:
    """One that has seen a leader, after whatever was before."""
    memory = Memory(ledger)
    memory.totals.take(state(ELECTOR))
    memory.chronicle.note(picture())
    memory.keep()
    return memory


def test_the_next_life_knows_what_this_one_knew(ledger: Ledger) -> None:
    before = lived(ledger)
    after = Memory(ledger)
    assert after.totals.kept() == before.totals.kept()
    assert after.chronicle.kept() == before.chronicle.kept()


def test_without_a_place_for_it_a_gateway_counts_all_the_same() -> None:
    assert lived(None).totals.of("changes") == {"": 3}


def test_what_did_not_change_is_not_written_again(ledger: Ledger) -> None:
    memory = lived(ledger)
    before = ledger._sequence
    memory.keep()
    assert ledger._sequence == before


def test_a_time_line_that_is_too_long_is_left_out_before_the_totals_are(ledger: Ledger) -> None:
    memory = Memory(ledger)
    memory.totals.take(state(ELECTOR))
    for n in range(60):
        memory.chronicle.note(picture(actuator={"reason": "ü" * 300}, elector={"holder": f"{n}" + "ü" * 290}))
    memory.keep()
    after = Memory(ledger)
    assert after.totals.of("changes") == {"": 3}
    assert not after.chronicle.entries


async def test_no_count_that_was_scraped_is_lost_however_soon_the_gateway_is_killed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load({"POD_NAME": "pod-0"})
    clock = boottime_ns()
    monkeypatch.setattr(gateway, "boottime_ns", lambda: clock)

    def life() -> Gateway:
        surroundings = Surroundings(config)
        made = Gateway(surroundings, Memory(ledger))  # type: ignore[arg-type]  # all that it uses of a Context
        surroundings.neighbours[Worker.ACTUATOR].says(FENCED)
        surroundings.neighbours[Worker.ELECTOR].says(states.elector(changes_total=3))
        return made

    def scraped(shown: Gateway) -> dict[str, float]:
        text = shown._site._exposition.render().body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {f"{each.name} {each.labels}": each.value for each in samples if each.name.endswith("_total")}

    first = life()
    first._keep()
    clock += 3 * timing.SECOND
    before = scraped(first)
    assert before["cardano_forge_manager_without_forger_seconds_total {}"] == 3
    after = scraped(life())
    assert {name: (count, after[name]) for name, count in before.items() if after[name] < count} == {}


def test_whatever_workers_gone_bad_count_and_say_the_totals_are_kept(ledger: Ledger) -> None:
    memory, long = Memory(ledger), "\0" * 4000
    for life in ("first", "second"):
        junk = {f"{life}-{n}-".ljust(40, "x"): 2**63 for n in range(250)}
        said = {
            "elector": {"requests_total": junk, "holder": long, "role": Role.STANDBY},
            "arbiter": {**MANAGED, "requests_total": junk, "pool": dataclasses.replace(POOL, holder=long, wanted=long)},
            "actuator": {"sighups_total": junk, "operations_total": junk, "kills_total": junk},
        }
        shown = picture(**said)
        for each in shown.states.values():
            memory.totals.take(dataclasses.replace(each, instance=f"{life}{long}"))
        memory.chronicle.note(shown)
    memory.keep()
    assert Memory(ledger).totals.kept() == memory.totals.kept()


@pytest.mark.parametrize(
    "record", [b"[" * MOST, b'{"a":' * 9000, b"\xff" * 100, b"null", b"7", b'"boot"', b"{}", b"[]"]
)
def test_no_record_keeps_a_gateway_from_starting(ledger: Ledger, record: bytes) -> None:
    ledger.write(record)
    assert Memory(ledger).totals.of("changes", [""]) == {"": 0}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in it."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_whatever_stands_in_any_place_of_a_record_the_gateway_starts_and_shows_itself(
    ledger: Ledger, data: st.DataObject
) -> None:
    known = json.loads(lived(None)._record(entries=True))
    where = data.draw(st.sampled_from(list(places(known))))
    value = data.draw(ANYTHING)
    if where:
        inner = known
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = value
    else:
        known = value
    ledger.write(json.dumps(known).encode()[:MOST])
    memory = Memory(ledger)
    memory.totals.take(state(ELECTOR))
    memory.chronicle.note(picture())
    memory.keep()
