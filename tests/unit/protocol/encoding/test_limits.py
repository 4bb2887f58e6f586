"""Limits of decoded bodies; decoding does not block other threads."""

import gc
import gzip
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.errors import SerializationError
from crew.protocol.encoding import codec, large_json, large_msgpack
from crew.protocol.encoding.limits import DEFAULT, Budget, Limits
from crew.protocol.message import Body
from tests.support.hostile import HOSTILE, array, listed, map_of

ENCODERS = {codec.JSON: msgspec.json.encode, codec.MSGPACK: msgspec.msgpack.encode}
TYPES = list(ENCODERS)
GENEROUS = Limits(elements=10**9, depth=500, memory=10**12)
MAX_HOLD = 0.1  # seconds of CPU for which decoding may block other threads


def encoded(value: Any, content_type: str) -> Body:
    """A body of another sender, which crew's encoder did not make."""
    return Body(ENCODERS[content_type](value), content_type)


A_LARGE_VALUE = {
    "rows": [
        {"id": i, "name": f'naïve "q" \\ {i}', "x": i / 7, "tags": [1, 2, [3, {"a": None}]], "is": True, "": {}}
        for i in range(3_000)
    ],
    "text": 'é\U0001f600\n"\\' * 60_000,
    "numbers": [i * 0.37 for i in range(30_000)],
    "empty": [[], {}, [[]], ""],
    "deep": json.loads("[" * 60 + "1" + "]" * 60),
    "map": {str(i): [i] for i in range(20_000)},
}


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("value", [A_LARGE_VALUE, [A_LARGE_VALUE], list(A_LARGE_VALUE.values()), "x" * 600_000])
def test_a_large_body_is_decoded_in_pieces_to_the_same_value(content_type: str, value: Any) -> None:
    body = encoded(value, content_type)
    assert len(body.data) > codec.LARGE
    assert codec.decode(body) == value


@pytest.mark.parametrize("indent", [None, 1, "\t"])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_a_large_json_body_may_have_any_format(indent: Any, is_ascii: bool) -> None:
    text = "\ufeff" + json.dumps(A_LARGE_VALUE, ensure_ascii=is_ascii, indent=indent)
    assert codec.decode(Body(text.encode(), codec.JSON)) == A_LARGE_VALUE


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=60,
)


@given(value=_values, content_type=st.sampled_from(TYPES))
@settings(deadline=None, max_examples=80)
def test_decoding_in_pieces_gives_the_same_value_as_msgspec(value: Any, content_type: str) -> None:
    data = ENCODERS[content_type](value)
    large = large_json if content_type == codec.JSON else large_msgpack
    assert large.decode(data, Budget(DEFAULT)) == value
    large.decode(data, Budget(DEFAULT), keeps=False)


_json_like = st.text(alphabet='[]{}",:0123456789.eE+-\\utrnalsf \n', max_size=60).map(str.encode)


@given(data=_json_like | st.binary(max_size=60), content_type=st.sampled_from(TYPES))
@settings(deadline=None, max_examples=400)
def test_decoding_in_pieces_refuses_what_msgspec_refuses(data: bytes, content_type: str) -> None:
    whole, large = (
        (msgspec.json.Decoder().decode, large_json)
        if content_type == codec.JSON
        else (large_msgpack.decode_small, large_msgpack)
    )
    try:
        value = ("is", whole(data))
    except Exception:
        value = ("refused", None)
    try:
        found = ("is", large.decode(data, Budget(GENEROUS)))
    except Exception:
        found = ("refused", None)
    assert repr(found) == repr(value)


def test_invalid_json_is_refused_wherever_the_error_is() -> None:
    text = json.dumps([{"a": [1, "b"]}] * 5_000).encode()
    for at in (0, 1, 7, 20_000, 40_000, len(text) - 2, len(text) - 1):
        for broken in (
            text[:at] + text[at + 1 :],
            text[:at],
            text[:at] + b"," + text[at:],
            text[:at] + b"\xff" + text[at:],
        ):
            try:
                json.loads(broken)
            except ValueError:
                with pytest.raises(SerializationError, match="not valid application/json"):
                    codec.decode(Body(broken, codec.JSON))


# --- elements, depth, memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ([1] * 20_000, 20_000),
        ([[]] * 20_000, 40_000),
        ({f"{i:05}": i for i in range(9_000)}, 18_000),
        ([[1, [2]]] * 9_000, 36_000),
    ],
)
@pytest.mark.parametrize("content_type", TYPES)
def test_elements_are_counted_exactly(value: Any, elements: int, content_type: str) -> None:
    body = encoded([value, ",[]{}:" * 10_000], content_type)  # brackets and commas in a string are not elements
    elements += 2
    assert codec.decode(body, limits=Limits(elements=elements))
    with pytest.raises(SerializationError, match=f"more than {elements - 1} elements.*CREW_MAX_ELEMENTS"):
        codec.decode(body, limits=Limits(elements=elements - 1))


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("padding", [0, 40_000])
def test_depth_is_limited_in_small_and_in_large_bodies(content_type: str, padding: int) -> None:
    def nested(levels: int) -> Body:
        value: Any = "x" * padding + "[{" * 300
        for _ in range(levels):
            value = [value]
        return encoded(value, content_type)

    assert codec.decode(nested(256))
    with pytest.raises(SerializationError, match=r"nested more than 256 levels deep.*CREW_MAX_DEPTH"):
        codec.decode(nested(257))


@pytest.mark.parametrize("content_type", TYPES)
def test_memory_is_limited_independently_of_the_size_of_the_body(content_type: str) -> None:
    wide = encoded("a" * 100_000 + "\U0001f600" * 100_000, content_type)  # four bytes for each character
    with pytest.raises(SerializationError, match=r"more than 1000000 bytes of memory.*CREW_MAX_MEMORY"):
        codec.decode(wide, limits=Limits(memory=1_000_000))
    assert codec.decode(wide, limits=Limits(memory=2_500_000))


def test_a_body_with_millions_of_elements_is_refused_before_they_are_built() -> None:
    data = gzip.compress(array(30_000_000) + b"\x90" * 30_000_000)
    assert len(data) < 40_000
    with pytest.raises(SerializationError, match="more than 1000000 elements"):
        codec.decode(Body(data, codec.MSGPACK, "gzip"))


def test_typical_large_payloads_are_within_the_limits() -> None:
    value = [{"id": i, "name": f"row {i}", "at": i * 1.5, "tags": ["a", "b"]} for i in range(60_000)]
    for content_type in TYPES:
        assert len(codec.decode(encoded(value, content_type))) == 60_000
    assert len(codec.decode(encoded([0.5] * 1_000_000, codec.JSON))) == 1_000_000


def test_a_messagepack_extension_is_refused_and_its_type_is_named() -> None:
    for ext in (msgspec.msgpack.Ext(5, b"data"), [msgspec.msgpack.Ext(5, b"data")] * 10_000):
        with pytest.raises(SerializationError, match=r"not valid application/msgpack: .*extension of type 5"):
            codec.decode(Body(msgspec.msgpack.encode(ext), codec.MSGPACK))


def colliding(bits: int, count: int) -> list[int]:
    """Numbers whose hashes collide in a dict of 2**bits slots, so that each lookup probes nearly all earlier ones.

    The first numbers fill the probe sequence 5 i + 1, which a dict follows when the bits of a hash are used up. Each
    further number joins that sequence after a few probes of occupied slots.
    """
    mask, path, slot = (1 << bits) - 1, [], 7
    for _ in range(int(0.36 * (mask + 1))):
        path.append(slot)
        slot = (5 * slot + 1) & mask
    taken, more = set(path), []
    for number in range(mask + 1, (mask + 1) << 5):
        at, perturb = number & mask, number
        while at in taken and perturb:
            perturb >>= 5
            at = (5 * at + perturb + 1) & mask
        if perturb == 0 and at in taken:
            more.append(number)
            if len(more) == count:
                break
    return path + more


def test_a_map_with_keys_chosen_to_collide_is_refused() -> None:
    keys = colliding(17, 9_000)
    data = map_of(len(keys)) + b"".join(b"\xce" + struct.pack(">I", key) + b"\x00" for key in keys)
    with pytest.raises(SerializationError, match="keys of a map in it collide"):
        codec.decode(Body(data, codec.MSGPACK))


@pytest.mark.parametrize("step", [1, 1024, 2**20, 2**32 + 1])
def test_a_map_with_regular_numbers_as_keys_is_decoded(step: int) -> None:
    value = {i * step: i for i in range(100_000)}
    assert codec.decode(encoded(value, codec.MSGPACK)) == value


# --- other threads run ------------------------------------------------------------------------------------------------


class _Holds:
    """The most CPU time that this process used while another thread waited for the interpreter.

    CPU time, not wall time: on a busy machine wall time includes other processes.
    """

    longest = 0.0


@contextmanager
def _watched() -> Iterator[_Holds]:
    holds, is_over = _Holds(), threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            before = time.process_time()
            time.sleep(0.002)
            holds.longest = max(holds.longest, time.process_time() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield holds
    finally:
        is_over.set()
        watcher.join()


def test_all_containers_of_a_refused_body_are_freed() -> None:
    """Bit by bit: the collector of cycles is not involved, and other threads run in between."""
    inner: dict[str, Any] = {"a": [1, {"b": []}]}
    values: list[Any] = [[inner, "text"], {"c": inner["a"]}, *([] for _ in range(5_000))]
    containers = [values, inner, inner["a"], inner["a"][1], values[-1]]
    Budget(DEFAULT).free([values])
    assert containers == [[], {}, [], {}, []]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [500_000, pytest.param(16_000_000, marks=pytest.mark.fuzz)])
def test_other_threads_run_while_a_hostile_body_is_decoded(name: str, size: int) -> None:
    content_type, of_size = HOSTILE[name]
    body = Body(of_size(size), content_type)
    gc.collect()
    with _watched() as holds:
        try:
            value = codec.decode(body)
        except SerializationError:
            value = None
    del value
    assert holds.longest < MAX_HOLD


def test_the_garbage_collector_rarely_runs_while_a_body_is_decoded() -> None:
    collected: list[int] = []

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(info["generation"])

    data = listed(b"[]", 900_000)
    gc.callbacks.append(count)
    try:
        value = codec.decode(Body(data, codec.JSON))
    finally:
        gc.callbacks.remove(count)
    assert len(value) == 300_000
    assert gc.isenabled()
    assert len(collected) < 20


@pytest.mark.parametrize("content_type", TYPES)
def test_a_check_refuses_what_decoding_refuses(content_type: str) -> None:
    body = encoded(A_LARGE_VALUE, content_type)
    codec.check(body, codec.decode)
    with pytest.raises(SerializationError):
        codec.check(Body(body.data[:-1], content_type), codec.decode)
