"""/metrics in the form that a scraper asks for: Prometheus text or OpenMetrics, compressed or not.

Rendered at most once in KEEP_NS for all who ask, so that a crowd of scrapers costs no more than one that is busy.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from policy import timing

KEEP_NS: Final = 100 * timing.MILLISECOND
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
GZIP_LEVEL: Final = 1
"""The text is as repetitive as can be: more effort gains little."""

_REFUSED: Final = re.compile(r";\s*q=0(\.0{0,3})?\s*(;|$)")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer's body, and what its headers say of it."""

    body: bytes
    content_type: str
    encoding: str
    """gzip; empty: as it is."""


class Exposition:
    """What one collector shows."""

    def __init__(self, collector: Collector, clock: Callable[[], int]) -> None:
        """clock: ns, ever rising."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self._clock = clock
        self._kept: dict[tuple[str, str], Rendered] = {}
        self._until = 0

    def render(self, accept: str = "", accept_encoding: str = "") -> Rendered:
        """By the request's headers Accept and Accept-Encoding; whatever they say, there is an answer."""
        now = self._clock()
        if now >= self._until:
            self._kept.clear()
            self._until = now + KEEP_NS
        form = OPENMETRICS if accepts(accept, "application/openmetrics-text") else TEXT
        encoding = "gzip" if accepts(accept_encoding, "gzip") else ""
        return self._made(form, encoding)

    def _made(self, form: str, encoding: str) -> Rendered:
        if (form, encoding) not in self._kept:
            body = self._packed(form) if encoding else self._plain(form)
            self._kept[form, encoding] = Rendered(body, form, encoding)
        return self._kept[form, encoding]

    def _plain(self, form: str) -> bytes:
        return (generate_openmetrics if form == OPENMETRICS else generate_latest)(self._registry)

    def _packed(self, form: str) -> bytes:
        return gzip.compress(self._made(form, "").body, GZIP_LEVEL, mtime=0)


def accepts(header: str, what: str) -> bool:
    """Whether a header such as Accept names `what`, and not with the quality 0 (RFC 9110, section 12.4.2)."""
    for each in header.lower().split(","):
        name, _, parameters = each.partition(";")
        if name.strip() == what:
            return _REFUSED.search(f";{parameters}") is None
    return False
