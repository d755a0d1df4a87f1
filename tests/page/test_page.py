"""The page in a real browser: every way a pod can stand, readable by everybody, live without a reload."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import WALL_S, Served
from certificates import Mounted, pair
from gateway_pictures import ACTUATOR, CERTIFICATE, MANAGED, NOW, POOL, S, picture
from playwright.sync_api import Error
from test_gateway_chronicle import FENCED, MANAGING, at, standby

from config import load
from devkit.api.embedded import EmbeddedApi, ThreadedApi
from devkit.pods import Cluster
from gateway.guard import Guard
from gateway.live import MOST_STREAMS
from gateway.views import Picture
from ipc.messages import ActuatorState, Check, Cost, Fence, Finding, ProberState, Role, Sandbox, Severity, Worker
from policy import timing

if TYPE_CHECKING:
    from conftest import Watch
    from playwright.sync_api import Browser

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


def idle(shown: Picture) -> Picture:
    """Its node does not forge, and says so."""
    states = dict(shown.states)
    for worker, state in shown.states.items():
        if isinstance(state.body, ActuatorState) and state.body.reason == ACTUATOR.reason:
            body = dataclasses.replace(state.body, reason="the node started without forging")
            states[worker] = dataclasses.replace(state, body=body)
        elif isinstance(state.body, ProberState) and state.body.sample is not None:
            sample = dataclasses.replace(state.body.sample, forging_enabled=0)
            states[worker] = dataclasses.replace(state, body=dataclasses.replace(state.body, sample=sample))
    return dataclasses.replace(shown, states=states)


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


THEIRS = idle(standby(reason="held by pod-1_bb", fencing_token=3))
FREE = idle(standby(holder="", reason="the lease is free", fencing_token=3))
OURS = picture(actuator={"fence": Fence.ARMING, "reason": "both grants stand"})
STATES: dict[str, tuple[Picture, ...]] = {
    "forging": line(FREE, OURS, picture()),
    "standby": line(FREE, THEIRS),
    "fenced": line(THEIRS, idle(_fenced())),
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
        assert page.text("h1") == "pod-1 has the right to forge"
        facts = dict(zip(*[iter(page.text("#facts").splitlines())] * 2, strict=True))
        assert facts["Right to forge"] == "pod-1"
        assert facts["Cluster"] == "eu-1"
        assert facts["Right lasts"].endswith("s, unless renewed")
        assert facts["Lease"] == "pod-1_bb (token 4)"
        assert page.text("#why").splitlines()[0] == EXPIRED[0].reason
        assert EXPIRED[0].remedy in page.text("#findings")


def test_since_when_is_not_claimed_of_what_was_so_before_it_was_looked(watch: Watch) -> None:
    """A gateway that has just started sees who forges, and not for how many days."""
    since = "document.querySelector('#facts div:nth-child(3) dd').textContent"
    with Served(*STATES["standby"]) as served, watch() as page:
        page.open(served.url)
        assert re.fullmatch(r"01:29:00, 6\d s ago", page.page.evaluate(since))
    with Served(closed(at(THEIRS, NOW - 60 * S)), closed(THEIRS)) as served, watch() as page:
        page.open(served.url)
        assert re.fullmatch(r"before 01:29:00, at least 6\d s ago", page.page.evaluate(since))


def test_a_change_is_shown_without_a_reload_and_the_time_line_tells_it(watch: Watch) -> None:
    with Served(closed(standby())) as served, watch() as page:
        page.open(served.url)
        page.page.evaluate("window.sameDocument = true")
        served.show(closed(picture()))
        page.wait("document.getElementById('title').textContent === 'This pod forges'")
        assert page.page.evaluate("window.sameDocument") is True
        assert page.page.title() == "forging: pod-0"
        assert "lease: pod-1_bb → pod-0_aa" in page.text("#line")


GONE = "document.getElementById('link').classList.contains('lost')"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_when_the_pod_falls_silent_nothing_on_the_page_goes_on_saying_that_it_forges(watch: Watch, dark: bool) -> None:
    """Neither the headline nor the tab; what stands below says how old it is, and nothing in it counts on."""
    with watch(dark=dark) as page:
        page.forgive_unreachable()
        with Served(closed(picture())) as served:
            page.open(served.url)
            icon = page.page.get_attribute("#icon", "href")
        page.wait(GONE)
        assert page.text("#standing") == "unknown"
        assert page.text("h1") == "It is not known who forges: this pod does not answer"
        assert page.page.title() == "unknown: pod-0"
        assert page.page.get_attribute("#icon", "href") != icon
        up = page.text("#workers")
        told = page.text("#age")
        assert re.fullmatch(r"What stands below was so \d+ s ago, and may be over\.", told)
        page.wait(f"document.getElementById('age').textContent !== {told!r}")
        assert page.text("#workers") == up
        assert [each["id"] for each in Axe().run(page.page).response["violations"]] == []


def test_a_connection_that_ended_without_a_word_is_given_up_for_another(watch: Watch) -> None:
    """Of a machine that lost its power, or a network that was left, a browser is told nothing: it only ever listens."""
    with Served(closed(standby())) as served, watch() as page:
        page.open(served.url)
        with served.hanging(), page.page.expect_request("**/events", timeout=60_000):
            page.wait(GONE)
        page.wait("document.getElementById('link').textContent === 'live'")
        assert page.text("h1") == "pod-1 has the right to forge"


ON_WAKING = """() => {
    const before = Date.now;
    performance.now = () => 0;  // as it stands still in a machine that sleeps
    Date.now = () => before() + 3600 * 1000;
}"""


def test_after_an_hours_sleep_of_the_machine_the_page_knows_that_it_knows_nothing(watch: Watch) -> None:
    with watch() as page:
        page.forgive_unreachable()
        with Served(closed(picture())) as served:
            page.open(served.url)
        page.page.evaluate(ON_WAKING)
        page.wait(GONE)
        assert "was so 60 min ago" in page.text("#age")


def test_what_waited_an_hour_on_its_way_is_no_news_and_the_page_asks_anew(watch: Watch) -> None:
    """A frozen tab is given in one go what came meanwhile, the newest of it perhaps from before the pod died."""
    with Served(closed(standby())) as served, watch() as page:
        page.open(served.url)
        with page.page.expect_request("**/events"):
            served.tell(now=WALL_S - 3600)
        page.wait("document.getElementById('asof').textContent.includes('00:30:')")  # of the new stream
        assert page.text("#link") == "live"


def test_a_browser_whose_clock_is_wrong_by_hours_shows_the_pods_times(watch: Watch) -> None:
    with Served(*STATES["forging"]) as served, watch() as page:
        page.page.add_init_script("{ const before = Date.now; Date.now = () => before() - 5 * 3600 * 1000; }")
        page.open(served.url)
        assert page.text("#asof").startswith("· as of 27 Nov 2026, 01:30:0")
        assert page.text("#asof").endswith(" UTC")
        shown = page.text("#line time")
        page.wait("document.getElementById('asof').textContent.includes('01:30:05')")
        assert (page.text("#link"), page.text("#line time")) == ("live", shown)


def test_what_the_page_does_not_understand_is_not_shown_as_if_it_were_live(watch: Watch) -> None:
    """After an upgrade the pod may tell what this page's script has never heard of."""
    with Served(closed(picture())) as served, watch() as page:
        page.open(served.url)
        page.forgive("TypeError")
        served.tell(headline=None)
        page.wait("document.getElementById('link').textContent.includes('reload this page')")
        assert page.text("#standing") == "unknown"
        assert page.text("h1") == "It is not known who forges: this page does not understand what its pod tells"


def test_where_too_many_look_the_page_says_that_instead_of_that_the_pod_is_gone(watch: Watch) -> None:
    with Served(closed(picture())) as served, watch() as page, contextlib.ExitStack() as others:
        page.forgive("status of 503")
        for _ in range(MOST_STREAMS):
            reader = others.enter_context(urllib.request.urlopen(f"{served.url}events"))
            reader.readline()
        page.page.goto(served.url)
        page.wait("document.getElementById('title').textContent.includes('too many look at this pod')")
        assert page.text("#standing") == "unknown"
        others.close()
        page.wait("document.getElementById('link').textContent === 'live'")


def test_without_javascript_the_page_says_where_the_same_stands_and_claims_nothing(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        with Served(closed(picture())) as served:
            page = context.new_page()
            page.goto(served.url)
            shown = page.inner_text("body")
            assert shown.startswith("This page needs JavaScript; /status says the same as JSON.")
            assert "Asking" not in shown
    finally:
        context.close()


def test_a_time_says_its_zone_and_its_day_where_that_is_another(watch: Watch) -> None:
    happened = {
        "about": "fence",
        "old": "armed",
        "new": "fenced",
        "why": "",
        "token": 0,
        "time": WALL_S - 3 * 86400,
    }
    with Served(closed(picture())) as served, watch() as page:
        page.open(served.url)
        served.tell(timeline=[happened])
        page.wait("document.querySelectorAll('#line li').length === 1")
        assert page.text("#line time") == "24 Nov 2026 01:30:00"
        assert page.text("#zone") == "Newest first, times in UTC"


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"elector": {"paused": "until 2026-12-24T18:00:00Z: new switches"}}, "paused"),
        ({"elector": {"standing_down_until": timing.NEVER, "drained": "kernel upgrade"}}, "standing down"),
        ({"actuator": {"fence": Fence.FENCING, "since": NOW - 2 * S, "deadline": 0}}, "told to stop"),
    ],
    ids=["paused", "drained", "fencing"],
)
def test_what_an_operator_ordered_stands_beside_how_the_pod_stands(
    watch: Watch, changes: dict[str, Any], mark: str
) -> None:
    with Served(closed(picture(**changes))) as served, watch(360) as page:
        page.open(served.url)
        assert page.text("#marks") == mark
        assert [each["id"] for each in Axe().run(page.page).response["violations"]] == []


def test_a_disabled_clusters_pod_says_so_and_one_away_coordination_api_is_named(watch: Watch) -> None:
    ours = dataclasses.replace(POOL.clusters[0], state="Disabled", eligible=False, why_not="Disabled: emergency")
    pool = dataclasses.replace(POOL, state="Disabled", clusters=(ours, POOL.clusters[1]), holder="")
    shown = idle(picture(arbiter={**MANAGED, "grant": None, "pool": pool}, actuator=FENCED))
    with Served(closed(dataclasses.replace(shown, config=MANAGING))) as served, watch() as page:
        page.open(served.url)
        assert page.text("#marks") == "cluster Disabled"
        assert page.text("#why li") == "its cluster may not forge: Disabled: emergency"
        assert "2 of 3 answer, 2 must" in page.text("#health")
        assert page.text("#members") == "coordination API three: the API server cannot be reached: Connection refused"


def test_a_conflict_of_other_clusters_is_seen_from_a_pod_that_is_not_in_it(watch: Watch) -> None:
    both = tuple(dataclasses.replace(POOL.clusters[1], name=f"us-{each}", state="Enabled") for each in (1, 2))
    pool = dataclasses.replace(POOL, holder="us-1", clusters=(*both, POOL.clusters[0]))
    shown = idle(picture(arbiter={**MANAGED, "grant": None, "pool": pool}, actuator=FENCED))
    with Served(closed(dataclasses.replace(shown, config=MANAGING))) as served, watch() as page:
        page.open(served.url)
        assert page.text("#members li") == "more than one cluster is Enabled: us-1, us-2"


def test_names_and_reasons_of_any_length_fit_a_small_phone_at_twice_the_size(watch: Watch) -> None:
    name, reason = "p" * 253, "r" * 300
    clusters = tuple(dataclasses.replace(each, name=name, leader=name, why_not=reason) for each in POOL.clusters)
    pool = dataclasses.replace(POOL, holder=name, cluster="us", clusters=clusters, why=reason)
    shown = picture(
        arbiter={**MANAGED, "grant": None, "pool": pool},
        elector={"holder": name, "reason": reason, "role": Role.STANDBY, "paused": reason},
        actuator={**FENCED, "reason": reason, "warnings": (reason,)},
        prober={"fit": False, "reasons": (reason,)},
    )
    with Served(closed(dataclasses.replace(shown, config=MANAGING))) as served, watch(320) as page:
        page.open(served.url)
        for size in ("16px", "32px"):
            page.page.evaluate("size => { document.documentElement.style.fontSize = size; }", size)
            overflow = page.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow == 0, f"at {size} a phone would have to scroll sideways"


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


HEAR = """() => {
    window.said = 0;
    const count = new MutationObserver((changes) => { window.said += changes.length; });
    for (const region of document.querySelectorAll("[aria-live], [role=status]"))
        count.observe(region, { subtree: true, childList: true, characterData: true });
    window.kept = document.querySelector("#line li");
}"""


def test_a_reader_is_told_a_new_forger_and_not_every_second(watch: Watch) -> None:
    """Nothing in a live region is touched while it stays as it is, nor what somebody may just be reading."""
    shown = closed(picture(actuator={"warnings": ("the node's metrics confirm nothing",)}))
    with Served(shown) as served, watch() as page:
        page.open(served.url)
        live = page.page.eval_on_selector_all("[aria-live], [role=status]", "found => found.map(e => e.id)")
        assert set(live) == {"said", "link", "warnings"}
        assert page.page.eval_on_selector_all("[aria-live] [data-way], [role=status] [data-way]", "f => f.length") == 0
        page.page.evaluate(HEAR)
        for _ in range(3):
            told = page.text("#asof")
            page.wait(f"document.getElementById('asof').textContent !== {told!r}")
        assert page.page.evaluate("window.said") == 0
        assert page.page.evaluate("window.kept.isConnected")
        served.show(closed(picture(actuator=FENCED)))
        page.wait("window.said > 0")


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


def test_a_token_in_the_address_itself_opens_the_stream_too(watch: Watch, tmp_path: Path) -> None:
    """http://any:TOKEN@pod/, from which a script may ask for nothing by a relative address."""
    mounted = Mounted(tmp_path / "gateway", token=TOKEN.encode())
    with Served(closed(picture()), guard=guarded(mounted)) as served, watch() as page:
        page.open(served.url.replace("//", f"//any:{TOKEN}@"))
        assert page.text("h1") == "This pod forges"


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


def test_what_would_turn_words_around_or_hide_is_shown_by_its_number(watch: Watch) -> None:
    """Else a pod's name with U+202E in it makes the headline say what it likes."""
    shown = picture(elector={"reason": "zero\u200bwidth \u202eturned\x07\nnext"})
    with Served(closed(shown)) as served, watch() as page:
        page.open(served.url)
        assert "leader: zero\\u200bwidth \\u202eturned\\u0007 next" in page.text("#why")


# --- real pods ---


def test_the_page_of_a_standby_shows_its_own_takeover_live_when_the_leader_is_killed(watch: Watch) -> None:
    api = ThreadedApi(EmbeddedApi())
    api.start_sync()
    try:
        with Cluster(api, 2) as cluster, watch() as page:
            cluster.wait_healthy(90)
            leader, (other,) = cluster.leader(), cluster.standbys()
            page.open(f"{other.address}/")
            page.wait(f"document.getElementById('title').textContent === '{leader.name} has the right to forge'")
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
