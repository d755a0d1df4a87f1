"""What a worker wrote down is what its next life reads, also what JSON knows no type for."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policy.lease import LeaseRecord, Observed
from workers.notebook import Notebook, observation

texts, numbers = st.text(max_size=8), st.integers(0, 2**40)
records = st.builds(
    LeaseRecord,
    texts,
    texts,
    numbers,
    numbers,
    seal=texts,
    key=texts,
    members=numbers,
    apis=st.lists(texts, max_size=3).map(tuple),
)
observed = st.builds(
    Observed,
    st.none() | records,
    numbers,
    previous_duration_s=numbers,
    displaced=st.lists(st.tuples(texts, numbers), max_size=3).map(tuple),
)


@given(observed)
def test_an_observation_is_read_as_it_was(tmp_path_factory: Any, seen: Observed) -> None:
    folder: Path = tmp_path_factory.mktemp("notes")
    Notebook(folder, logging.getLogger("test")).keep({"seen": dataclasses.asdict(seen)})
    read = Notebook(folder, logging.getLogger("test")).read(lambda raw, _: observation(raw["seen"]))
    assert read == seen
