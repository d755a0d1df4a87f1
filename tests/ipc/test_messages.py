"""What may cross a socket: every message whole, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc import messages
from ipc.messages import (
    BODIES,
    MAX_FRAME,
    PROTOCOL,
    ActuatorState,
    ArbiterState,
    ElectorState,
    GatewayState,
    Grant,
    NodeSample,
    NodeView,
    ProberState,
    ProtocolError,
    StandDown,
    StandDownReply,
    State,
    Worker,
    decode,
    decode_state,
    encode,
)

INTS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
st.register_type_strategy(int, INTS)
st.register_type_strategy(str, TEXTS)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))

GRANTS = st.none() | st.builds(Grant)
COUNTS = st.dictionaries(TEXTS, INTS, max_size=5)
LINES = st.lists(TEXTS, max_size=4).map(tuple)
STATE_BODIES = {
    Worker.PROBER: st.builds(ProberState, reasons=LINES, aliases=LINES, sample=st.none() | st.builds(NodeSample)),
    Worker.ELECTOR: st.builds(ElectorState, grant=GRANTS, requests_total=COUNTS),
    Worker.ARBITER: st.builds(ArbiterState, grant=GRANTS),
    Worker.ACTUATOR: st.builds(
        ActuatorState,
        refusals=LINES,
        warnings=LINES,
        node=st.none() | st.builds(NodeView),
        sighups_total=COUNTS,
        operations_total=COUNTS,
        kills_total=COUNTS,
    ),
    Worker.GATEWAY: st.builds(GatewayState, requests_total=COUNTS),
}
STATES = st.sampled_from(list(Worker)).flatmap(
    lambda worker: st.builds(State, worker=st.just(worker), body=STATE_BODIES[worker])
)
EXAMPLE = State(
    Worker.ARBITER, "0a1b", 7, 3, 100, 200, 300, ArbiterState(Grant("pod", 1, 900, 100, exclusive=True), "why", False)
)


def raw(message: Any = EXAMPLE) -> Any:
    """The frame as plain lists and maps, to be spoilt and packed again."""
    return msgpack.unpackb(encode(message))


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


@given(STATES)
def test_every_state_arrives_as_it_was_sent(state: State) -> None:
    assert decode_state(encode(state), state.worker) == state


@given(st.builds(StandDown), st.builds(StandDownReply))
def test_the_command_and_its_reply_arrive_as_they_were_sent(command: StandDown, reply: StandDownReply) -> None:
    assert decode(encode(command), StandDown) == command
    assert decode(encode(reply), StandDownReply) == reply


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_a_protocol_error(payload: bytes) -> None:
    for kind in (State, StandDown, StandDownReply):
        try:
            assert isinstance(decode(payload, kind), kind)
        except ProtocolError:
            continue


SPOILT = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXTS | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(STATES, st.data())
def test_a_state_with_any_one_field_replaced_is_a_state_or_a_protocol_error(state: State, data: st.DataObject) -> None:
    frame = raw(state)
    target = frame[2]["body"] if data.draw(st.booleans()) else frame[2]
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(SPOILT)
    try:
        assert isinstance(decode(packed(frame), State), State)
    except ProtocolError:
        return


@given(STATES, st.data())
def test_a_state_with_some_bytes_changed_or_cut_is_a_state_or_a_protocol_error(
    state: State, data: st.DataObject
) -> None:
    payload = bytearray(encode(state))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(payload[: data.draw(st.integers(0, len(payload)))]), State)
    except ProtocolError:
        return


def test_a_field_too_many_or_too_few_is_refused() -> None:
    more, less = raw(), raw()
    more[2]["admin"] = True
    del less[2]["pid"]
    deeper = raw()
    deeper[2]["body"]["grant"]["for_ever"] = True
    for frame in (more, less, deeper):
        with pytest.raises(ProtocolError, match="unknown or missing fields"):
            decode(packed(frame), State)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, b"", [], {}])
def test_an_integer_is_an_integer_and_neither_a_truth_value_nor_a_whole_float(value: Any) -> None:
    frame = raw()
    frame[2]["pid"] = value
    with pytest.raises(ProtocolError, match=r"State\.pid: int expected"):
        decode(packed(frame), State)


@pytest.mark.parametrize("value", [1, 0, None, "true"])
def test_a_truth_value_is_neither_zero_nor_one(value: Any) -> None:
    frame = raw()
    frame[2]["body"]["grant"]["exclusive"] = value
    with pytest.raises(ProtocolError, match="bool expected"):
        decode(packed(frame), State)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_of_seconds_is_a_number(value: float) -> None:
    with pytest.raises(ProtocolError, match="finite"):
        decode(packed([PROTOCOL, "StandDown", {"seconds": value, "reason": "", "at_once": True}]), StandDown)


def test_an_unknown_word_of_a_closed_list_is_refused() -> None:
    frame = raw()
    frame[2]["worker"] = "treasurer"
    with pytest.raises(ProtocolError, match="not a Worker"):
        decode(packed(frame), State)


def test_another_protocol_version_is_refused() -> None:
    for version in (PROTOCOL + 1, True, "1"):
        frame = raw()
        frame[0] = version
        with pytest.raises(ProtocolError, match="protocol"):
            decode(packed(frame), State)


def test_a_message_of_another_kind_is_refused() -> None:
    with pytest.raises(ProtocolError, match="StandDown expected"):
        decode(encode(EXAMPLE), StandDown)


@pytest.mark.parametrize("worker", [w for w in Worker if w is not Worker.ARBITER])
def test_a_worker_speaks_for_itself_alone(worker: Worker) -> None:
    with pytest.raises(ProtocolError):
        decode_state(encode(EXAMPLE), worker)
    with pytest.raises(ProtocolError):
        decode_state(encode(dataclasses.replace(EXAMPLE, worker=worker)), worker)


def test_a_frame_above_the_cap_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages.msgpack, "unpackb", lambda *_a, **_k: pytest.fail("unpacked"))
    with pytest.raises(ProtocolError, match="too large"):
        decode(bytes(MAX_FRAME + 1), State)


OPENING = packed([PROTOCOL, "State", None])[:-1]


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
@pytest.mark.parametrize("depth", [10, 900, 980, 1000, 1015, 1023, 1024, 20_000])
def test_no_depth_of_nesting_exhausts_the_stack(opening: bytes, depth: int) -> None:
    deep = opening * depth + b"\xc0"
    for payload in (deep, OPENING + deep):
        with pytest.raises(ProtocolError):
            decode(payload, State)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
@pytest.mark.parametrize("depth", [10, 900, 980, 1000, 1015])
@pytest.mark.parametrize("field", sorted(raw()[2]))
def test_no_field_of_any_type_exhausts_the_stack(opening: bytes, depth: int, field: str) -> None:
    frame = raw()
    frame[2][field] = "HERE"
    payload = packed(frame).replace(packed("HERE"), opening * depth + b"\xc0")
    with pytest.raises(ProtocolError):
        decode(payload, State)


@pytest.mark.parametrize("payload", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
def test_a_length_that_only_claims_to_be_huge_reserves_nothing(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(OPENING + payload, State)


def test_an_error_never_shows_what_the_frame_carried() -> None:
    frame = raw()
    frame[2]["instance"] = 5
    frame[2]["pid"] = "hunter2"
    frame[2]["body"]["reason"] = "hunter2"
    with pytest.raises(ProtocolError) as caught:
        decode(packed(frame), State)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_text_too_long_for_the_receiver_is_cut_by_the_sender() -> None:
    """A Lease's holder is a text of any length written by whoever may write Leases: it must not silence us."""
    for text in ("x" * 100_000, "ÿ" * 100_000, "\ud800" * 10):
        state = dataclasses.replace(EXAMPLE, body=ArbiterState(None, text, False))
        body = decode_state(encode(state), Worker.ARBITER).body
        assert isinstance(body, ArbiterState)
        assert 9 < len(body.reason) <= 4096


def test_a_state_that_no_receiver_would_take_is_not_sent() -> None:
    many = dataclasses.replace(
        EXAMPLE, body=GatewayState(1, {f"{n:0300}": n for n in range(250)}), worker=Worker.GATEWAY
    )
    for state in (many, dataclasses.replace(EXAMPLE, pid=2**64)):
        with pytest.raises(ProtocolError):
            encode(state)


def test_every_worker_has_a_body_of_its_own() -> None:
    assert set(BODIES) == set(Worker)
    assert len(set(BODIES.values())) == len(Worker)
