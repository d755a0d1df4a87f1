"""The copies of one spec on several members: whatever is edited where, they end alike, and nobody writes for ever."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.arbitration import ClusterSpec, ForgeState, HealthSpec, Override
from policy.replicas import Copy, agreed_mark, counts, mark, spec_key

DISABLED = ForgeState.DISABLED
SPECS = [ClusterSpec(priority=n) for n in (1, 2, 3)] + [
    ClusterSpec(state=DISABLED),
    ClusterSpec(override=Override(enabled=True, force_state=DISABLED)),
]
specs = st.sampled_from(SPECS)


class Members:
    """Each member's copy; `carry` is one write of the cluster's arbiter, as it sees the members."""

    def __init__(self, count: int) -> None:
        self.copies = [Copy(True, SPECS[0], "") for _ in range(count)]
        self.writes = 0
        self.refusing: set[int] = set()

    def edit(self, index: int, spec: ClusterSpec) -> None:
        """By an operator: the mark stays."""
        self.copies[index] = dataclasses.replace(self.copies[index], spec=spec)

    def reach(self, index: int, reachable: bool) -> None:
        self.copies[index] = dataclasses.replace(self.copies[index], reachable=reachable)

    def carry(self, index: int) -> bool:
        """Bring one member into step; whether anything was written."""
        wanted, chosen, here = agreed_mark(self.copies), counts(self.copies), self.copies[index]
        assert chosen is not None
        spec = self.copies[chosen].spec
        if not wanted or not here.reachable or (here.mark == wanted and here.spec == spec):
            return False
        if index not in self.refusing:
            self.copies[index] = Copy(True, self.stored(spec), wanted)
        self.writes += 1
        return True

    def stored(self, spec: ClusterSpec) -> ClusterSpec:
        """As the server makes it."""
        return spec

    def settle(self) -> None:
        """The arbiter acts until there is nothing to do."""
        for _ in range(6 * len(self.copies)):
            written = [self.carry(index) for index in range(len(self.copies))]
            if not any(written):
                return
        raise AssertionError(f"endless: {self.copies}")

    @property
    def alike(self) -> bool:
        return len({(spec_key(copy.spec), copy.mark) for copy in self.copies}) == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.integers(0, 4), specs),
        st.tuples(st.just("reach"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("carry"), st.integers(0, 4), st.none()),
        st.tuples(st.just("backup"), st.integers(0, 4), st.none()),
        st.tuples(st.just("restore"), st.integers(0, 4), st.none()),
        st.tuples(st.just("mark"), st.integers(0, 4), st.sampled_from(["", "x", "7.no", f"{'9' * 15}.a", "9" * 40])),
    ),
    max_size=25,
)


def lived(members: Members, story: list[tuple[str, int, object]]) -> Members:
    backups = list(members.copies)
    for what, wished, value in story:
        index = wished % len(members.copies)
        copy = members.copies[index]
        if what == "edit" and isinstance(value, ClusterSpec):
            members.edit(index, value)
        elif what == "reach":
            members.reach(index, value is True)
        elif what == "carry":
            members.carry(index)
        elif what == "backup":
            backups[index] = copy
        elif what == "restore":
            members.copies[index] = dataclasses.replace(backups[index], reachable=copy.reachable)
        elif what == "mark":
            members.copies[index] = dataclasses.replace(copy, mark=str(value))
    return members


@given(st.integers(1, 5), steps)
def test_once_all_are_reachable_the_copies_end_alike(count: int, story: list[tuple[str, int, object]]) -> None:
    members = lived(Members(count), story)
    for index in range(count):
        members.reach(index, True)
    members.settle()
    assert members.alike
    assert agreed_mark(members.copies) == ""


@given(st.integers(1, 5), steps)
def test_the_reachable_copies_end_alike_while_others_are_out_of_reach(
    count: int, story: list[tuple[str, int, object]]
) -> None:
    members = lived(Members(count), story)
    members.settle()
    assert len({(spec_key(copy.spec), copy.mark) for copy in members.copies if copy.reachable}) <= 1


@given(st.integers(2, 5), st.integers(0, 4), specs, st.permutations([*range(5)] * 3))
def test_an_edit_anywhere_comes_to_every_member_in_whatever_order_they_are_served(
    count: int, where: int, spec: ClusterSpec, order: list[int]
) -> None:
    members = Members(count)
    members.settle()
    members.edit(where % count, spec)
    for index in order:
        members.carry(index % count)
    members.settle()
    assert {spec_key(copy.spec) for copy in members.copies} == {spec_key(spec)}


@given(st.integers(0, 40), st.integers(0, 40), st.permutations([0, 1, 2]))
def test_an_edited_copy_counts_before_unedited_ones_of_any_revision(one: int, other: int, order: list[int]) -> None:
    copies = [
        Copy(True, SPECS[0], mark(one, SPECS[0])),
        Copy(True, SPECS[1], mark(other, SPECS[1])),
        Copy(True, SPECS[2], mark(one, SPECS[0])),
    ]
    placed = [copies[i] for i in order]
    assert counts(placed) == order.index(2)


@pytest.mark.parametrize("disabling", SPECS[3:])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_edits_the_one_that_disables_counts(disabling: ClusterSpec, order: tuple[int, int]) -> None:
    edits = [Copy(True, SPECS[1], mark(9, SPECS[0])), Copy(True, disabling, mark(2, SPECS[0]))]
    assert counts([edits[i] for i in order]) == order.index(1)


def test_of_two_other_edits_upon_the_same_revision_the_member_that_comes_first_counts() -> None:
    edits = [Copy(True, SPECS[n], mark(4, SPECS[0])) for n in (2, 1)]
    assert counts(edits) == 0


def test_a_copy_out_of_reach_counts_only_where_no_other_does() -> None:
    edited = Copy(False, SPECS[1], mark(3, SPECS[0]))
    assert counts([edited, Copy(True, SPECS[0], mark(1, SPECS[0]))]) == 1
    assert counts([edited]) == 0
    assert counts([]) is None


def test_a_member_restored_from_a_backup_is_put_right() -> None:
    members = Members(3)
    members.settle()
    backup = members.copies[1]
    members.edit(0, SPECS[2])
    members.settle()
    members.copies[1] = backup
    members.settle()
    assert members.alike
    assert members.copies[1].spec == SPECS[2]


def test_a_member_that_was_out_of_reach_is_put_right() -> None:
    members = Members(3)
    members.settle()
    members.reach(2, False)
    members.edit(0, SPECS[1])
    members.settle()
    members.reach(2, True)
    members.settle()
    assert members.alike
    assert members.copies[2].spec == SPECS[1]


def test_one_edit_costs_one_write_on_each_member() -> None:
    members = Members(3)
    members.settle()
    for where in range(3):
        members.writes = 0
        members.edit(where, SPECS[1 + where % 2])
        members.settle()
        assert members.writes == 3


def test_a_member_that_takes_no_write_does_not_have_the_others_written_for_ever() -> None:
    members = Members(3)
    members.settle()
    members.edit(0, SPECS[1])
    members.refusing = {0}
    for index in (1, 2):
        assert members.carry(index)
    for index in (1, 2) * 5:
        assert not members.carry(index)


class Defaulting(Members):
    """A server that drops what it does not know, and fills in what is absent."""

    def stored(self, spec: ClusterSpec) -> ClusterSpec:
        return dataclasses.replace(spec, health=HealthSpec(interval_s=spec.health.interval_s or 30.0))


@settings(max_examples=50)
@given(st.integers(1, 5), steps)
def test_servers_that_fill_in_defaults_are_not_written_for_ever(
    count: int, story: list[tuple[str, int, object]]
) -> None:
    members = lived(Defaulting(count), story)
    members.edit(0, ClusterSpec(health=HealthSpec(enabled=True, interval_s=0.0)))
    for index in range(count):
        members.reach(index, True)
    members.settle()
    assert members.alike


# --- marks ---


@given(st.integers(1, 10**15 - 1), specs)
def test_a_mark_tells_its_revision_and_that_nobody_wrote_since(revision: int, spec: ClusterSpec) -> None:
    copy = Copy(True, spec, mark(revision, spec))
    assert copy.revision == revision
    assert not copy.edited


@pytest.mark.parametrize(
    "change",
    [
        {"state": ForgeState.ENABLED},
        {"priority": 7},
        *({"health": HealthSpec(**{name: value})} for name, value in [
            ("enabled", True), ("endpoint", "http://x"), ("interval_s", 5.0), ("timeout_s", 5.0), ("threshold", 9),
            ("headers", (("a", "b"),)),
        ]),
        *({"override": Override(**{name: value})} for name, value in [
            ("enabled", True), ("reason", "x"), ("expires_at", 1.0), ("force_priority", 5), ("force_state", DISABLED),
        ]),
    ],
)  # fmt: skip
def test_a_change_of_any_field_is_an_edit(change: dict[str, object]) -> None:
    spec = ClusterSpec()
    assert Copy(True, dataclasses.replace(spec, **change), mark(1, spec)).edited  # type: ignore[arg-type]


@given(st.text(max_size=40))
def test_a_mark_that_is_none_is_an_edit_of_an_unmarked_copy(text: str) -> None:
    copy = Copy(True, SPECS[0], text)
    assert copy.edited is (text != mark(copy.revision, SPECS[0]))
    assert 0 <= copy.revision < 10**15


def test_a_newer_edit_counts_before_one_that_was_carried_but_is_not_marked_yet() -> None:
    before, carried, newer = (ClusterSpec(priority=priority) for priority in (700, 701, 702))
    edited_first = Copy(True, carried, mark(8, before))
    brought_along = Copy(True, carried, mark(9, carried))
    edited_then = Copy(True, newer, mark(9, carried))
    assert counts([edited_first, brought_along, edited_then]) == 2
    assert agreed_mark([edited_first, brought_along, edited_then]) == mark(10, newer)
