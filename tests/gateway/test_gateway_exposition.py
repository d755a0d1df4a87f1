"""/metrics in each form that scrapers ask for, and once for all of them."""

from __future__ import annotations

import gzip

import pytest
from gateway_pictures import picture
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from gateway.chronicle import Chronicle
from gateway.exposition import KEEP_NS, OPENMETRICS, TEXT, Exposition, accepts
from gateway.metrics import PodCollector
from gateway.totals import Totals
from gateway.views import Picture

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
"""As Prometheus 3 asks (scrape/scrape.go)."""


class Served:
    def __init__(self) -> None:
        self.now = 0
        self.looks = 0
        self.exposition = Exposition(PodCollector(self.look, Totals(), Chronicle()), lambda: self.now)

    def look(self) -> Picture:
        self.looks += 1
        return picture()


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "text/html, */*", "application/openmetrics-text;q=0"])
def test_who_does_not_ask_for_openmetrics_gets_the_text_of_old(accept: str) -> None:
    made = Served().exposition.render(accept)
    assert made.content_type == TEXT
    assert list(text_string_to_metric_families(made.body.decode()))


def test_prometheus_gets_openmetrics_which_is_what_it_says() -> None:
    made = Served().exposition.render(PROMETHEUS)
    assert made.content_type == OPENMETRICS
    assert made.body.endswith(b"# EOF\n")
    assert list(openmetrics_families(made.body.decode()))


def test_both_forms_have_the_same_samples() -> None:
    served = Served()
    plain = text_string_to_metric_families(served.exposition.render().body.decode())
    other = openmetrics_families(served.exposition.render(PROMETHEUS).body.decode())

    def samples(families: object) -> set[tuple[str, str, float]]:
        return {(s.name, str(sorted(s.labels.items())), s.value) for f in families for s in f.samples}  # type: ignore[attr-defined]

    assert samples(plain) == samples(other)


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
def test_who_takes_gzip_gets_the_same_in_a_quarter(accept: str) -> None:
    served = Served()
    plain, packed = served.exposition.render(accept), served.exposition.render(accept, "gzip, deflate")
    assert (plain.encoding, packed.encoding) == ("", "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) * 4 < len(plain.body)


def test_gzip_of_quality_zero_is_a_refusal() -> None:
    assert Served().exposition.render("", "gzip;q=0").encoding == ""
    assert Served().exposition.render("", "gzip;q=0.5").encoding == "gzip"


def test_a_crowd_costs_one_look() -> None:
    served = Served()
    for _ in range(1000):
        served.exposition.render("", "gzip")
        served.exposition.render()
    assert served.looks == 1
    served.now += KEEP_NS
    served.exposition.render()
    assert served.looks == 2


@given(st.text(), st.text())
def test_no_header_fails_it(accept: str, encoding: str) -> None:
    assert Served().exposition.render(accept, encoding).body


@given(st.text(alphabet="gzip;q=0.15, x", max_size=30))
def test_a_header_is_read_in_bounded_time_and_never_fails(header: str) -> None:
    assert accepts(header, "gzip") in (True, False)
