"""Who may see what on the gateway's port, by the files that GATEWAY_TOKEN_FILE and GATEWAY_TLS_* name.

Without a token everybody may see everything.  With one, all but the probes needs it, and /metrics only with
GATEWAY_PROTECT=all; then probes tell a stranger no more than their verdict.  A file that cannot be used never opens
anything: the one before stays in use, and where there is none nobody is let in.

`mistakes` is what `forge-manager` looks at before it starts anything.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config import Config, Mistake
from config.variables import NOT_SHOWN
from gateway.rotating import Rotating, Unusable, read_small
from gateway.token import MOST_BYTES, BadToken, Shown, Token, look_at, parse_token

if TYPE_CHECKING:
    from ssl import SSLContext  # loaded only where TLS is spoken

log = logging.getLogger("gateway")

TOKEN: Final = "GATEWAY_TOKEN_FILE"  # noqa: S105  # a variable's name
PROBES: Final = frozenset({"/startup-status", "/health", "/ready"})
METRICS: Final = "/metrics"
COMPLAIN_EVERY_S: Final = 600.0


class Guard:
    """What is asked of a request, and the TLS context of new connections."""

    def __init__(self, config: Config | None = None) -> None:
        """None: nothing is guarded.  Looks at the files; what is wrong with them is in the log and in `problems`."""
        files = config.gateway_files if config is not None else {}
        self._open = PROBES if config is not None and config.gateway_protect == "all" else PROBES | {METRICS}
        self._reticent = METRICS not in self._open
        self._token: Rotating[Token] | None = None
        self.tls: Rotating[SSLContext] | None = None
        if (path := files.get(TOKEN)) is not None:
            self._token = Rotating("the token", (path,), lambda: read_token(path))
        if config is not None and config.gateway_tls_cert_file and config.gateway_tls_key_file:
            self.tls = _tls(config.gateway_tls_cert_file, config.gateway_tls_key_file)
        self.refused: Counter[str] = Counter()
        """Requests without the token where it is needed, or with a wrong one anywhere, by `Shown`."""
        self._complain_at = 0.0
        self._unsaid = 0
        self.look()

    def look(self) -> bool:
        """Take over what has changed.  Whether the token is another one, so that who came by the old one must go."""
        if self.tls is not None:
            self.tls.look()
        return self._token is not None and self._token.look()

    @property
    def problems(self) -> dict[str, str]:
        """Of what is set: why what its files hold now is not in use; empty: it is."""
        set_ = {"token": self._token, "certificate": self.tls}
        return {name: each.problem for name, each in set_.items() if each is not None}

    def lets(self, path: str, authorization: Sequence[str]) -> bool:
        """Whether a request may have what is at `path` (as it is routed; whatever else it is: what is nowhere).

        authorization: the values of every such header.
        """
        return path in self._open or self._shows_the_token(authorization)

    def tells_reasons(self, authorization: Sequence[str]) -> bool:
        """Whether a probe gives reasons, not only its verdict."""
        return not self._reticent or self._shows_the_token(authorization, must=False)

    def _shows_the_token(self, authorization: Sequence[str], *, must: bool = True) -> bool:
        if self._token is None:
            return True
        shown = look_at(authorization, self._token.value)
        if shown is Shown.WRONG or (must and shown is Shown.NOTHING):
            self.refused[shown] += 1
        if shown is Shown.WRONG:
            self._complain(time.monotonic())
        return shown is Shown.RIGHT

    def _complain(self, now: float) -> None:
        """One line for many: who guesses must not fill the log."""
        self._unsaid += 1
        if now >= self._complain_at:
            text = "a wrong token was shown (%d times since this was last said)"
            log.warning(text, self._unsaid, extra={"event": "wrong_token", "count": self._unsaid})
            self._complain_at, self._unsaid = now + COMPLAIN_EVERY_S, 0


def read_token(path: Path) -> Token:
    """Raises Unusable."""
    try:
        return parse_token(read_small(TOKEN, path, MOST_BYTES))
    except BadToken as error:
        raise Unusable(TOKEN, str(error)) from None


def _tls(certificate: Path, key: Path) -> Rotating[SSLContext]:
    from gateway import tls  # with ssl, which nobody else needs

    return Rotating("the certificate", (certificate, key), lambda: tls.make_context(certificate, key))


def mistakes(config: Config) -> tuple[Mistake, ...]:
    """What is wrong with the files as they are now.  Needs the ssl module where a certificate is set."""
    found = []
    if config.gateway_token_file is not None:
        try:
            read_token(config.gateway_token_file)
        except Unusable as error:
            found.append(Mistake(error.variable, NOT_SHOWN, error.remedy))
    if config.gateway_tls_cert_file is not None and config.gateway_tls_key_file is not None:
        from gateway import tls

        try:
            tls.make_context(config.gateway_tls_cert_file, config.gateway_tls_key_file)
        except Unusable as error:
            found.append(Mistake(error.variable, NOT_SHOWN, error.remedy))
    return tuple(found)
