"""What holds for all tests: short folders, and the same examples in every run.

`make test` says of two runs of one commit the same.  What nobody thought of is looked for by `make explore`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from devkit.pod import LONGEST_BASE

# A proxy is for elsewhere (a package index): what tests ask is on this machine.  The lower names hide the upper ones.
for _name in [name for name in os.environ if name.endswith("_proxy")]:
    os.environ[_name.upper()] = os.environ.pop(_name)
os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1", "localhost", ".invalid")))

# Folders of tests hold sockets, whose addresses have 107 bytes.
if len(os.fsencode(tempfile.gettempdir())) > LONGEST_BASE:
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"

# Files of tests have the modes that they are made with, also for whoever's shell lets nobody else read anything.
os.umask(0o022)

# No deadline and no complaint of slowness: no test depends on how fast the machine is.
ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", ANY_SPEED, derandomize=True)
settings.register_profile("anew", ANY_SPEED, print_blob=True)
settings.load_profile("anew" if os.environ.get("FORGE_EXPLORE") else "same")


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not named after its test: short enough for a socket's address (107 bytes), whoever runs the tests and how."""
    return tmp_path_factory.mktemp("t")
