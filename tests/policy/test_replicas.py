"""The copies of one spec on several members: whatever is edited where, they end alike, and nobody writes for ever."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.arbitration import ClusterSpec, ForgeState, HealthSpec, Override
from policy.replicas import Copy, counts, digest, made, mark, sets_aside, spec_key, step

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
        self.set_aside: list[ClusterSpec] = []

    def edit(self, index: int, spec: ClusterSpec) -> None:
        """By an operator: the mark stays."""
        self.copies[index] = dataclasses.replace(self.copies[index], spec=spec)

    def reach(self, index: int, reachable: bool) -> None:
        self.copies[index] = dataclasses.replace(self.copies[index], reachable=reachable)

    def carry(self, index: int) -> bool:
        """Bring one member into step; whether anything was written."""
        taken = step(self.copies)
        if taken is None or index not in taken.onto:
            return False
        self.writes += 1
        if index in self.refusing:
            self.copies[index] = dataclasses.replace(self.copies[index], writable=False)
        else:
            self.set_aside += [self.copies[index].spec] if sets_aside(self.copies, taken, index) else []
            wanted = self.copies[taken.source].spec
            made = self.stored(index, wanted)
            alters = self.copies[index].alters if made == wanted else digest(wanted)
            self.copies[index] = Copy(True, made, taken.mark, alters=alters)
        return True

    def stored(self, index: int, spec: ClusterSpec) -> ClusterSpec:
        """As that member's server makes it."""
        return spec

    def list_all(self) -> None:
        """Every member is within reach, takes writes, and was listed anew."""
        self.refusing = set()
        self.copies = [dataclasses.replace(each, reachable=True, writable=True, alters="") for each in self.copies]

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
        st.tuples(st.just("refuse"), st.integers(0, 4), st.booleans()),
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
        elif what == "refuse":
            members.refusing = members.refusing | {index} if value else members.refusing - {index}
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
    members.refusing = set()
    for index in range(count):
        members.reach(index, True)
    members.settle()
    assert members.alike
    taken = step(members.copies)
    assert taken is not None
    assert not taken.onto


@given(st.integers(1, 5), steps)
def test_the_reachable_copies_end_alike_while_others_are_out_of_reach(
    count: int, story: list[tuple[str, int, object]]
) -> None:
    members = lived(Members(count), story)
    members.refusing = set()
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


@given(st.integers(1, 40), st.integers(0, 40), st.permutations([0, 1, 2]))
def test_an_edited_copy_counts_before_unedited_ones_unless_these_are_of_later_revisions(
    upon: int, other: int, order: list[int]
) -> None:
    copies = [
        Copy(True, SPECS[0], mark(upon, SPECS[0])),
        Copy(True, SPECS[1], mark(other, SPECS[1])),
        Copy(True, SPECS[2], mark(upon, SPECS[0])),
    ]
    placed = [copies[i] for i in order]
    assert counts(placed) == order.index(1 if other > upon else 2)


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
    for index in (0, 1, 2):
        assert members.carry(index)
    for index in (1, 2) * 5:
        assert not members.carry(index)


class Defaulting(Members):
    """Servers some of which drop what they do not know, and fill in what is absent."""

    def __init__(self, count: int, which: frozenset[int]) -> None:
        super().__init__(count)
        self.which = which

    def stored(self, index: int, spec: ClusterSpec) -> ClusterSpec:
        if index not in self.which:
            return spec
        return dataclasses.replace(spec, health=HealthSpec(interval_s=spec.health.interval_s or 30.0))


STRANGE = ClusterSpec(health=HealthSpec(enabled=True, interval_s=0.0))
which = st.frozensets(st.integers(0, 4))


@given(st.integers(1, 5), which, steps, st.integers(0, 4))
def test_servers_that_fill_in_defaults_are_not_written_for_ever(
    count: int, which: frozenset[int], story: list[tuple[str, int, object]], where: int
) -> None:
    """Whichever of them took no write before."""
    members = lived(Defaulting(count, which), story)
    members.refusing = set()
    members.edit(where % count, STRANGE)
    members.settle()


@given(st.integers(1, 5), which, steps, st.integers(0, 4))
def test_and_all_end_alike_once_all_can_be_written(
    count: int, which: frozenset[int], story: list[tuple[str, int, object]], where: int
) -> None:
    members = lived(Defaulting(count, which), [each for each in story if each[0] != "mark"])
    members.edit(where % count, STRANGE)
    members.list_all()
    members.settle()
    assert members.alike, "but for marks by hand: beyond the last revision there is none to write upon"


# --- marks ---


@given(st.integers(1, 10**15 - 2), specs)
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


# --- edits one after another, and at once ---


class Apart:
    """The servers, and what the arbiter knows of them: its writes land late, and it hears of everything late."""

    def __init__(self, count: int) -> None:
        self.servers = [Copy(True, SPECS[0], mark(1, SPECS[0])) for _ in range(count)]
        self.known = list(self.servers)
        self.under_way: dict[int, tuple[Copy, Copy]] = {}
        """Member -> the copy upon which it was decided, what is to be written."""

    def decide(self, index: int) -> None:
        taken = step(self.known)
        if taken is not None and index in taken.onto and index not in self.under_way:
            wanted = Copy(True, self.known[taken.source].spec, taken.mark)
            self.under_way[index] = self.known[index], wanted

    def land(self, index: int) -> None:
        upon, wanted = self.under_way.get(index, (None, None))
        if wanted is not None and upon is self.servers[index]:  # a compare-and-swap
            self.servers[index] = wanted

    def hear(self, index: int) -> None:
        self.known[index] = self.servers[index]
        self.under_way.pop(index, None)

    def settle(self) -> None:
        for _ in range(6 * len(self.servers)):
            for index in range(len(self.servers)):
                self.decide(index)
                self.land(index)
                self.hear(index)
        taken = step(self.servers)
        assert taken is not None
        assert not taken.onto

    def seen_everywhere(self) -> bool:
        return len({spec_key(copy.spec) for copy in self.servers}) == 1


@settings(max_examples=300)
@given(st.integers(2, 4), st.lists(st.tuples(st.integers(0, 3), specs), min_size=1, max_size=5), st.data())
def test_an_edit_by_somebody_who_saw_the_last_one_everywhere_stands(
    count: int, edits: list[tuple[int, ClusterSpec]], data: st.DataObject
) -> None:
    members = Apart(count)
    acts = st.tuples(st.sampled_from([members.decide, members.land, members.hear]), st.integers(0, count - 1))
    for where, spec in edits:
        for act, index in data.draw(st.lists(acts, max_size=30)):
            act(index)
        if not members.seen_everywhere():
            members.settle()
        old = members.servers[where % count]
        members.servers[where % count] = Copy(True, spec, old.mark)
    members.settle()
    assert {spec_key(copy.spec) for copy in members.servers} == {spec_key(edits[-1][1])}


class Begun:
    """The members of a new pool: none has the object, and the arbiter hears late what it made and what others wrote."""

    def __init__(self, count: int) -> None:
        self.servers: list[Copy | None] = [None] * count
        self.known: list[Copy | None] = [None] * count
        self.under_way: dict[int, tuple[Copy | None, Copy]] = {}
        """Member -> the copy upon which it was decided, what is to be written."""

    def decide(self, index: int) -> None:
        copies = [copy for copy in self.known if copy is not None]
        if index in self.under_way:
            return
        if self.known[index] is None:
            self.under_way[index] = None, Copy(True, *made(copies, SPECS[0]))
            return
        here, taken = sum(copy is not None for copy in self.known[:index]), step(copies)
        if taken is not None and here in taken.onto:
            self.under_way[index] = self.known[index], Copy(True, copies[taken.source].spec, taken.mark)

    def land(self, index: int) -> None:
        upon, wanted = self.under_way.get(index, (None, None))
        if wanted is not None and upon is self.servers[index]:  # a compare-and-swap; a creation finds nothing
            self.servers[index] = wanted

    def hear(self, index: int) -> None:
        self.known[index] = self.servers[index]
        self.under_way.pop(index, None)

    def settle(self) -> None:
        for index in [*range(len(self.servers))] * 6 * len(self.servers):
            self.hear(index)
            self.decide(index)
            self.land(index)

    def edit(self, spec: ClusterSpec) -> bool:
        """On whichever member the operator finds it; whether he did."""
        where = next((i for i, copy in enumerate(self.servers) if copy is not None), None)
        if where is None:
            return False
        old = self.servers[where]
        assert old is not None
        self.servers[where] = Copy(True, spec, old.mark)
        return True


@settings(max_examples=300)
@given(st.integers(1, 4), specs, st.data())
def test_what_an_operator_says_as_soon_as_there_is_an_object_stands_whatever_the_arbiter_has_under_way(
    count: int, spec: ClusterSpec, data: st.DataObject
) -> None:
    members = Begun(count)
    acts = st.tuples(st.sampled_from([members.decide, members.land, members.hear]), st.integers(0, count - 1))
    said = False
    for act, index in data.draw(st.lists(acts, max_size=40)):
        act(index)
        said = said or members.edit(spec)
    members.settle()
    assert all(members.servers)
    found = {spec_key(copy.spec) for copy in members.servers if copy is not None}
    assert found == {spec_key(spec if said else SPECS[0])}


def test_a_copy_that_the_arbiter_makes_is_no_edit() -> None:
    spec, first = made([], SPECS[0])
    assert (spec, Copy(True, spec, first).edited, Copy(True, spec, first).revision) == (SPECS[0], False, 0)
    edited = Copy(True, SPECS[2], mark(7, SPECS[1]))
    spec, later = made([Copy(True, SPECS[1], mark(7, SPECS[1])), edited], SPECS[0])
    assert (spec, later) == (SPECS[2], mark(7, SPECS[2]))


def test_what_the_environment_says_on_a_member_made_late_does_not_undo_what_an_operator_said_meanwhile() -> None:
    late = Copy(True, *made([], SPECS[0]))
    carried = Copy(True, SPECS[3], mark(2, SPECS[3]))
    for copies in ([late, carried], [carried, late], [late, carried, Copy(True, SPECS[0], mark(1, SPECS[0]))]):
        assert copies[counts(copies) or 0] == carried


def test_the_edited_copy_is_marked_before_the_others_are_written() -> None:
    edited, old = Copy(True, SPECS[1], mark(8, SPECS[0])), Copy(True, SPECS[0], mark(8, SPECS[0]))
    first = step([old, edited, old])
    assert first is not None
    assert (first.source, first.mark, first.onto) == (1, mark(9, SPECS[1]), {1})
    then = step([old, Copy(True, SPECS[1], first.mark), old])
    assert then is not None
    assert (then.mark, then.onto) == (first.mark, {0, 2})


def test_an_edit_whose_member_takes_no_write_is_carried_all_the_same() -> None:
    members = Members(3)
    members.settle()
    members.edit(1, SPECS[1])
    members.refusing = {1}
    for index in (1, 0, 2):
        assert members.carry(index)
    assert members.copies[0] == members.copies[2] == Copy(True, SPECS[1], mark(2, SPECS[1]))
    members.refusing = set()
    members.settle()
    assert members.alike
    assert members.copies[1].spec == SPECS[1]


def test_an_edit_whose_member_went_away_before_it_was_carried_is_carried_from_memory() -> None:
    members = Members(3)
    members.settle()
    members.edit(0, SPECS[3])
    members.reach(0, False)
    assert counts(members.copies) == 1  # what everybody can read
    members.settle()
    assert {copy.spec for copy in members.copies[1:]} == {SPECS[3]}


@pytest.mark.parametrize("disabling", SPECS[3:])
def test_an_edit_that_did_not_know_of_a_disabling_does_not_undo_it(disabling: ClusterSpec) -> None:
    members = Members(3)
    members.settle()
    members.reach(2, False)
    members.edit(0, disabling)
    members.settle()
    members.edit(2, SPECS[1])
    members.reach(2, True)
    members.settle()
    assert {copy.spec for copy in members.copies} == {disabling}
    assert members.set_aside == [SPECS[1]]


def test_an_edit_that_did_not_know_of_a_later_one_is_set_aside() -> None:
    members = Members(3)
    members.settle()
    members.reach(2, False)
    members.edit(0, SPECS[1])
    members.settle()
    members.edit(2, SPECS[2])
    members.reach(2, True)
    members.settle()
    assert {copy.spec for copy in members.copies} == {SPECS[1]}
    assert members.set_aside == [SPECS[2]]


def test_a_disabling_edit_that_was_seen_on_a_member_that_never_comes_back_can_be_taken_back_elsewhere() -> None:
    members = Members(3)
    members.settle()
    members.edit(0, SPECS[3])
    members.reach(0, False)
    members.settle()
    members.edit(1, SPECS[1])
    members.settle()
    assert {copy.spec for copy in members.copies[1:]} == {SPECS[1]}


def test_an_edit_that_disables_counts_though_it_did_not_know_of_later_ones() -> None:
    members = Members(3)
    members.settle()
    members.reach(2, False)
    members.edit(0, SPECS[1])
    members.settle()
    members.edit(2, SPECS[3])
    members.reach(2, True)
    members.settle()
    assert {copy.spec for copy in members.copies} == {SPECS[3]}
    assert members.set_aside == []


def test_of_two_edits_at_once_the_one_that_disables_is_in_force_in_the_end() -> None:
    for places in ((0, 1), (1, 0), (1, 2), (2, 1)):
        members = Members(3)
        members.settle()
        members.edit(places[0], SPECS[3])
        members.edit(places[1], SPECS[1])
        members.settle()
        assert {copy.spec for copy in members.copies} == {SPECS[3]}
        assert members.set_aside == [SPECS[1]]


def test_an_object_that_was_replaced_without_its_mark_counts_whatever_it_replaces() -> None:
    members = Members(3)
    members.settle()
    members.edit(0, SPECS[3])
    members.settle()
    members.copies[1] = Copy(True, SPECS[1], "")
    members.settle()
    assert {copy.spec for copy in members.copies} == {SPECS[1]}
    assert members.set_aside == []


def test_a_copy_that_equals_what_was_carried_is_not_set_aside() -> None:
    members = Members(2)
    members.settle()
    members.reach(1, False)
    members.edit(0, SPECS[2])
    members.edit(1, SPECS[2])
    members.reach(1, True)
    members.settle()
    assert members.set_aside == []
    assert {copy.spec for copy in members.copies} == {SPECS[2]}
