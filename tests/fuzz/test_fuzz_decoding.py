"""A million spoilt frames, read as every reader reads: a message of the declared type, or a ProtocolError."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from fuzz_corpus import KINDS, Honest, corpus, values
from fuzz_mutate import Fuzzer, packed, parse
from fuzz_run import FRAMES, Memory, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc.frames import FrameReader
from ipc.messages import (
    DEBUG_REPLIES,
    MAX_FRAME,
    DebugReply,
    DebugWhat,
    ProtocolError,
    decode,
    decode_debug_reply,
    encode,
)

WARM: int = 10_000
quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(honest: Honest, payload: bytes) -> int:
    """How many of its readers took it.  A failure shows the payload, which is all it needs to happen again."""
    taken = 0
    for decoder in honest.decoders:
        try:
            message = decoder(payload)
        except ProtocolError:
            continue
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} from a {honest.name}: {payload.hex()}") from error
        taken += 1
        assert means_the_same_again(message, decoder, len(payload)), f"{honest.name}: {payload.hex()}"
    return taken


def means_the_same_again(message: object, decoder: Callable[[bytes], object], size: int) -> bool:
    """Whether a message that was taken arrives as it is when it is sent on."""
    try:
        return decoder(encode(message)) == message
    except ProtocolError:
        return size > MAX_FRAME // 2  # a whole number where a float belongs takes more room as one


@pytest.mark.timeout(60 + FRAMES // 1000)
def test_spoilt_frames_are_messages_or_protocol_errors_and_leave_nothing_behind(say: Callable[[str], None]) -> None:
    with Run("decoding", FRAMES, say) as run:
        fuzzer = Fuzzer(corpus(run.rng), run.rng)
        reader, memory, taken, impossible = FrameReader(), None, 0, 0
        while run.done < run.frames:
            batch = [fuzzer.payload() for _ in range(run.rng.choice((1, 1, 1, 2, 8)))]
            run.done += len(batch)
            readers = iter([honest for honest, _ in batch])
            try:
                for piece in fuzzer.pieces(fuzzer.stream([payload for _, payload in batch])):
                    for payload in reader.feed(piece):
                        assert 0 < len(payload) <= MAX_FRAME
                        taken += read(next(readers, batch[0][0]), payload) > 0
            except ProtocolError:
                impossible += 1
                reader = FrameReader()
            if memory is None and run.done >= WARM:
                memory = Memory()
        run.facts += [f"{taken / run.done:.0%} taken", f"{impossible} streams ended"]
        assert 0.05 < taken / run.done < 0.5, "frames that are all refused, or all taken, show nothing"
        assert impossible
        assert memory is not None
        run.facts.append(memory.has_not_grown())


def test_a_seed_gives_the_same_frames_again_and_another_seed_others() -> None:
    def frames(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        fuzzer = Fuzzer(corpus(rng), rng)
        return [fuzzer.payload()[1] for _ in range(200)]

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)


def test_the_corpus_has_every_kind_and_each_is_taken_by_its_readers() -> None:
    honest = corpus(random.Random(0))
    assert {kind.__name__ for kind in KINDS} <= {each.name.split(" ")[0] for each in honest}
    for each in honest:
        assert read(each, each.payload) == len(each.decoders) > 0
        assert parse(each.payload)[-1].end == len(each.payload)


# --- the same by hypothesis, which shrinks what it finds ---

messages = pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in KINDS])


@messages
def test_every_value_of_every_kind_arrives_as_it_was_sent(kind: type) -> None:
    @given(values(kind))
    @quickly
    def arrives(message: object) -> None:
        assert decode(encode(message), kind) == message

    arrives()


@messages
def test_any_field_of_any_kind_replaced_is_a_message_or_a_protocol_error(kind: type) -> None:
    @given(values(kind), st.data())
    @quickly
    def refused_or_taken(message: object, data: st.DataObject) -> None:
        payload = encode(message)
        node = data.draw(st.sampled_from(parse(payload)))
        spoilt = payload[: node.start] + packed(data.draw(ANYTHING)) + payload[node.end :]
        try:
            taken = decode(spoilt, kind)
        except ProtocolError:
            return
        assert means_the_same_again(taken, lambda again: decode(again, kind), len(spoilt))

    refused_or_taken()


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
REPLIES = st.sampled_from(list(DEBUG_REPLIES)).flatmap(
    lambda what: st.tuples(st.just(what), values(DEBUG_REPLIES[what]))
)


@given(REPLIES, st.sampled_from(list(DebugWhat)))
@settings(quickly, max_examples=200)
def test_an_answer_is_taken_for_its_own_question_alone(answer: tuple[DebugWhat, DebugReply], asked: DebugWhat) -> None:
    what, reply = answer
    if asked is what:
        assert decode_debug_reply(encode(reply), asked) == reply
    else:
        with pytest.raises(ProtocolError, match="expected"):
            decode_debug_reply(encode(reply), asked)


@given(st.binary(max_size=600), st.sampled_from(KINDS))
@settings(quickly, max_examples=300)
def test_any_bytes_are_a_message_of_any_kind_or_a_protocol_error(payload: bytes, kind: type) -> None:
    try:
        assert isinstance(decode(payload, kind), kind)
    except ProtocolError:
        return
