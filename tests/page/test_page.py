"""The page in a real browser: every way a pod can stand, readable by everybody, live without a reload."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import Served
from certificates import Mounted, pair
from gateway_pictures import CERTIFICATE, MANAGED, NOW, POOL, S, picture
from playwright.sync_api import Error
from test_gateway_chronicle import FENCED, MANAGING, at, standby

from config import load
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import Cluster
from gateway.guard import Guard
from gateway.views import Picture
from ipc.messages import Check, Cost, Fence, Finding, Role, Sandbox, Severity, Worker

if TYPE_CHECKING:
    from conftest import Watch

pytestmark = [pytest.mark.page, pytest.mark.timeout(300)]

PICTURES = os.environ.get("FORGE_PAGE_PICTURES", "")
"""Folder for the screenshots of the four states; empty: none are made."""


def closed(shown: Picture) -> Picture:
    """As workers are after their first audit."""
    states = {
        worker: dataclasses.replace(
            state, sandbox=Sandbox(closed=True, separation="uids", audited_at=NOW), cost=Cost(NOW, 10**9, 25 << 20, 17)
        )
        for worker, state in shown.states.items()
    }
    own = Sandbox(closed=True, separation="uids", audited_at=NOW)
    return dataclasses.replace(shown, states=states, own=own, own_cost=Cost(NOW, 10**9, 22 << 20, 12))


EXPIRED = (
    Finding(
        Check.KES_PERIOD,
        Severity.ERROR,
        "the operational certificate has expired: it was good until KES period 1062",
        "cardano-cli latest node key-gen-KES ... && cardano-cli latest node issue-op-cert ...",
    ),
)


def _fenced() -> Picture:
    shown = picture(
        elector={
            "role": Role.OBSERVER,
            "reason": "the actuator is not ready",
            "grant": None,
            "holder": "pod-1_bb",
            "holder_until": NOW + 12 * S,
        },
        actuator={
            **FENCED,
            "reason": "no grant",
            "ready": False,
            "refusals": (EXPIRED[0].reason,),
            "findings": EXPIRED,
            "certificate": dataclasses.replace(CERTIFICATE, periods_left=-3, expires_at=1_795_300_000.0),
        },
    )
    return dataclasses.replace(shown, now=NOW)


def _conflict() -> Picture:
    clusters = tuple(dataclasses.replace(each, state="Enabled", eligible=True, why_not="") for each in POOL.clusters)
    pool = dataclasses.replace(POOL, conflict=True, clusters=clusters, why="it is Enabled, and first by priority")
    return dataclasses.replace(picture(arbiter={**MANAGED, "pool": pool}), config=MANAGING)


def line(*pictures: Picture) -> tuple[Picture, ...]:
    """These, some seconds apart."""
    starts = (NOW - 65 * S, NOW - 62 * S, NOW - 60 * S)[-len(pictures) :]
    return (*(closed(at(each, start)) for each, start in zip(pictures, starts, strict=True)), closed(pictures[-1]))


THEIRS = standby(reason="held by pod-1_bb", fencing_token=3)
FREE = standby(holder="", reason="the lease is free", fencing_token=3)
OURS = picture(actuator={"fence": Fence.ARMING, "reason": "both grants stand"})
STATES: dict[str, tuple[Picture, ...]] = {
    "forging": line(FREE, OURS, picture()),
    "standby": line(FREE, THEIRS),
    "fenced": line(THEIRS, _fenced()),
    "conflict": line(_conflict()),
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100], ids=["phone", "desk"])
@pytest.mark.parametrize("state", STATES)
def test_every_state_is_told_and_nothing_keeps_anybody_from_reading_it(
    watch: Watch, state: str, width: int, dark: bool
) -> None:
    """axe-core finds nothing: contrast, roles, names, order, the rest of its rules for WCAG 2.2 AA."""
    with Served(*STATES[state]) as served, watch(width, dark=dark) as page:
        page.open(served.url)
        assert page.text("#standing") == state
        found = Axe().run(page.page).response["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
        overflow = page.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow == 0, "a phone would have to scroll sideways"
        if PICTURES and width > 1000 and not dark:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            page.page.screenshot(path=Path(PICTURES) / f"{state}.png", full_page=True)


def test_one_look_says_who_where_since_when_until_when_who_is_next_and_why(watch: Watch) -> None:
    with Served(closed(standby()), closed(_fenced())) as served, watch() as page:
        page.open(served.url)
        assert page.text("h1") == "pod-1 forges"
        facts = dict(zip(*[iter(page.text("#facts").splitlines())] * 2, strict=True))
        assert facts["Forger"] == "pod-1"
        assert facts["Cluster"] == "eu-1"
        assert facts["Right lasts"].endswith("s, unless renewed")
        assert facts["Lease"] == "pod-1_bb (token 4)"
        assert page.text("#why").splitlines()[0] == EXPIRED[0].reason
        assert EXPIRED[0].remedy in page.text("#findings")


def test_a_change_is_shown_without_a_reload_and_the_time_line_tells_it(watch: Watch) -> None:
    with Served(closed(standby())) as served, watch() as page:
        page.open(served.url)
        page.page.evaluate("window.sameDocument = true")
        served.show(closed(picture()))
        page.wait("document.getElementById('title').textContent === 'This pod forges'")
        assert page.page.evaluate("window.sameDocument") is True
        assert page.page.title() == "forging: pod-0"
        assert "lease: pod-1_bb → pod-0_aa" in page.text("#line")


def test_when_the_pod_falls_silent_the_page_does_not_go_on_saying_that_it_forges(watch: Watch) -> None:
    with watch() as page:
        page.forgive_unreachable()
        with Served(closed(picture())) as served:
            page.open(served.url)
        page.wait("document.getElementById('link').classList.contains('lost')")
        assert page.text("h1") == "It is not known who forges: this pod does not answer"


def test_seconds_go_on_counting_between_two_messages(watch: Watch) -> None:
    with Served(closed(picture())) as served, watch() as page:
        page.open(served.url)
        since = "document.querySelector('#facts [data-way=up]').textContent"
        before = page.page.evaluate(since)
        page.wait(f"{since} !== {before!r}")


def test_it_can_be_read_by_keyboard_alone(watch: Watch) -> None:
    with Served(*STATES["conflict"]) as served, watch(360) as page:
        page.open(served.url)
        page.page.keyboard.press("Tab")
        assert page.page.evaluate("document.activeElement.textContent") == "Skip to who forges"
        page.page.keyboard.press("Enter")
        assert page.page.evaluate("document.activeElement.id") == "now"
        reached = set()
        for _ in range(12):
            page.page.keyboard.press("Tab")
            reached.add(
                page.page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id")
            )
        assert {"Clusters, best first", "Each worker", "line"} <= reached, "what scrolls must be within reach"


def test_a_reader_is_told_a_new_forger_and_not_every_second(watch: Watch) -> None:
    """Only the headline is in a live region; what counts is outside of it."""
    with Served(closed(picture())) as served, watch() as page:
        page.open(served.url)
        live = page.page.eval_on_selector_all("[aria-live], [role=status]", "found => found.map(e => e.id)")
        assert set(live) == {"title", "link", "warnings"}
        assert page.page.eval_on_selector_all("[aria-live] [data-way]", "found => found.length") == 0


# --- under a token, and by TLS ---

TOKEN, OTHER = "t" * 40, "u" * 40


def guarded(mounted: Mounted, *, tls: bool = False) -> Guard:
    found = {"POD_NAME": "pod-0", "GATEWAY_TOKEN_FILE": str(mounted["token"])}
    if tls:
        found |= {"GATEWAY_TLS_CERT_FILE": str(mounted["cert"]), "GATEWAY_TLS_KEY_FILE": str(mounted["key"])}
    return Guard(load(found))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_with_the_token_as_password_the_page_and_its_stream_are_there(watch: Watch, tmp_path: Path, tls: bool) -> None:
    """The browser sends what its user gave with everything of this pod's, the stream too."""
    certified = pair()
    mounted = Mounted(tmp_path / "gateway", token=TOKEN.encode(), cert=certified.certificate, key=certified.key)
    with Served(closed(standby()), guard=guarded(mounted, tls=tls)) as served, watch(password=TOKEN) as page:
        page.open(served.url)
        served.show(closed(picture()))
        page.wait("document.getElementById('title').textContent === 'This pod forges'")


def test_without_the_token_a_browser_shows_nothing_of_the_pod(watch: Watch, tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "gateway", token=TOKEN.encode())
    with Served(closed(picture()), guard=guarded(mounted)) as served, watch() as page:
        page.forgive_refusals()
        with pytest.raises(
            Error, match="ERR_INVALID_AUTH_CREDENTIALS"
        ):  # without a window it asks nobody, and gives up
            page.page.goto(served.url)
        page.page.wait_for_url("chrome-error://**")
        assert "pod-0" not in page.page.content()


def test_when_its_token_is_rotated_the_page_says_so_and_asks_no_more(watch: Watch, tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "gateway", token=TOKEN.encode())
    guard = guarded(mounted)
    with Served(closed(picture()), guard=guard) as served, watch(password=TOKEN) as page:
        page.open(served.url)
        page.forgive_refusals()
        mounted.swap(token=OTHER.encode())
        served.look_again()
        page.wait("document.getElementById('link').textContent.includes('reload this page')")
        assert page.text("#standing") == "unknown"
        assert page.text("h1") == "It is not known who forges: this pod asks for its token"
        refused = guard.refused.total()
        page.page.wait_for_timeout(3000)  # it would try again after two seconds
        assert page.text("h1") == "It is not known who forges: this pod asks for its token"
        assert guard.refused.total() == refused
        mounted.swap(token=TOKEN.encode())
        served.look_again()
        page.open(served.url)  # a reload, with what the user gives then


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_what_strangers_write_is_text_and_never_markup(watch: Watch) -> None:
    """Whoever may write the Lease or a CardanoForgeCluster can write anything into it."""
    clusters = tuple(dataclasses.replace(each, leader=HOSTILE, why_not=HOSTILE) for each in POOL.clusters)
    pool = dataclasses.replace(POOL, holder=HOSTILE, clusters=clusters, why=HOSTILE)
    shown = picture(
        arbiter={**MANAGED, "pool": pool},
        elector={"holder": HOSTILE, "reason": HOSTILE},
        actuator={"reason": HOSTILE, "warnings": (HOSTILE,)},
    )
    with Served(closed(dataclasses.replace(shown, config=MANAGING))) as served, watch() as page:
        page.open(served.url)
        assert HOSTILE in page.text("#why")
        assert page.page.eval_on_selector_all("img, script:not([src='page.js'])", "found => found.length") == 0


# --- real pods ---


def test_the_page_of_a_standby_shows_its_own_takeover_live_when_the_leader_is_killed(watch: Watch) -> None:
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        with Cluster(api, 2) as cluster, watch() as page:
            cluster.wait_healthy(90)
            leader, (other,) = cluster.leader(), cluster.standbys()
            page.open(f"{other.address}/")
            page.wait(f"document.getElementById('title').textContent === '{leader.name} forges'")
            assert page.text("#standing") == "standby"
            page.page.evaluate("window.sameDocument = true")
            leader.kill_node()
            page.wait("document.getElementById('title').textContent === 'This pod forges'")
            assert page.page.evaluate("window.sameDocument") is True
            assert "fence: fenced → arming" in page.text("#line")
            assert cluster.overlap_s(cluster.began) == 0
    finally:
        api.stop_sync()


@pytest.mark.parametrize("worker", [Worker.ELECTOR, Worker.ACTUATOR])
def test_a_silent_worker_is_seen_at_once(watch: Watch, worker: Worker) -> None:
    with Served(closed(picture(silent=(worker,)))) as served, watch() as page:
        page.open(served.url)
        assert page.text("#standing") == "unknown"
        assert f"the {worker} is silent" in page.text("#why")
