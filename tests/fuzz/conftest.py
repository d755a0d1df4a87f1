"""A way to say something while pytest captures everything."""

from __future__ import annotations

from collections.abc import Callable

import fuzz_run
import pytest


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints: at once in a long run (a crash of the interpreter must leave its seed), else where a test fails."""

    def tell(line: str) -> None:
        if fuzz_run.LONG:
            with capfd.disabled():
                print(f"\n{line}", flush=True)
        else:
            print(line)

    return tell
