"""What /status and the metrics say of the workers' sandboxes."""

from __future__ import annotations

import dataclasses

from gateway_pictures import NOW, S, picture
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway import views
from gateway.chronicle import Chronicle
from gateway.metrics import PodCollector
from gateway.totals import Totals
from gateway.views import SANDBOXED, Picture
from ipc.messages import Sandbox, Worker
from policy import timing

CLOSED = Sandbox(closed=True, separation="single-uid", missing=("no Landlock scope",), audited_at=NOW - 5 * S)
VIOLATIONS = "cardano_forge_manager_privilege_violations"
IS_CLOSED = "cardano_forge_manager_sandbox_closed"


def looking(*, now: int = NOW, own: Sandbox | None = CLOSED, **sandboxes: Sandbox) -> Picture:
    """Everybody's sandbox is closed and clean, but for those given by the worker's name."""
    made = picture(now=now)
    states = {w: dataclasses.replace(s, sandbox=sandboxes.get(w, CLOSED)) for w, s in made.states.items()}
    return dataclasses.replace(made, states=states, own=own)


def samples(shown: Picture, name: str) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(PodCollector(lambda: shown, Totals(), Chronicle()))
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    assert families[name].type == "gauge"
    return {sample.labels["worker"]: sample.value for sample in families[name].samples}


def test_a_pod_within_its_declarations_has_no_violations_and_five_closed_sandboxes() -> None:
    everybody = {str(worker) for worker in Worker}
    assert samples(looking(), VIOLATIONS) == dict.fromkeys(everybody, 0)
    assert samples(looking(), IS_CLOSED) == dict.fromkeys(everybody, 1)
    assert views.status(looking())["warnings"] == []


def test_violations_are_counted_for_the_worker_that_has_them_and_warned_of() -> None:
    shown = looking(elector=dataclasses.replace(CLOSED, violations=("read SOURCE_KES_KEY: done", "execve: done")))
    assert samples(shown, VIOLATIONS)["elector"] == 2
    assert samples(shown, VIOLATIONS)["prober"] == 0
    (warning,) = views.status(shown)["warnings"]
    assert "elector" in warning
    assert "SOURCE_KES_KEY" in warning


def test_a_permissive_start_shows_in_metric_status_and_warnings() -> None:
    shown = looking(prober=Sandbox(closed=False, separation="single-uid", missing=("Landlock: not permitted",)))
    assert samples(shown, IS_CLOSED)["prober"] == 0
    assert views.status(shown)["sandbox"]["prober"]["closed"] is False
    (warning,) = views.status(shown)["warnings"]
    assert "permissive" in warning
    assert "Landlock: not permitted" in warning


def test_before_the_first_audit_no_number_of_violations_is_claimed() -> None:
    shown = looking(arbiter=dataclasses.replace(CLOSED, audited_at=0))
    assert "arbiter" not in samples(shown, VIOLATIONS)
    assert samples(shown, IS_CLOSED)["arbiter"] == 1
    assert views.status(shown)["sandbox"]["arbiter"]["audited_seconds_ago"] is None


def test_status_shows_separation_what_is_missing_and_the_age_of_the_last_audit_of_each_worker() -> None:
    shown = views.status(looking())["sandbox"]
    assert set(shown) == {str(worker) for worker in SANDBOXED} == {str(worker) for worker in Worker}
    assert shown["actuator"] == {
        "closed": True,
        "separation": "single-uid",
        "missing": ["no Landlock scope"],
        "violations": [],
        "audited_seconds_ago": 5.0,
    }


def test_nothing_is_said_of_the_sandbox_of_a_silent_worker() -> None:
    late = looking(now=NOW + timing.STATE_VALIDITY)
    assert set(samples(late, IS_CLOSED)) == {"gateway"}
    assert views.status(late)["sandbox"]["actuator"] is None
    assert samples(looking(own=None), IS_CLOSED).keys() == {str(w) for w in Worker} - {"gateway"}
