"""MessagePack that is decoded in pieces: the same values as from msgspec, exact limits, pieces of a limited size."""

import struct
from typing import Any

import msgspec
import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import large_msgpack
from crew.protocol.encoding.large_msgpack import CHUNK, PIECE, PIECE_OF_NUMBERS, decode, is_too_deep, text
from crew.protocol.encoding.limits import ELEMENT, Budget, Limits, width
from tests.support.decoding import RecordingBudget, imported_again
from tests.support.hostile import array, map_of

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


def elements_of(value: Any) -> int:
    """Members of all containers in `value`; an empty one counts one."""
    if isinstance(value, dict):
        return max(2 * len(value), 1) + sum(map(elements_of, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return max(len(value), 1) + sum(map(elements_of, value))
    return 0


SCALARS: list[bytes] = [
    *(bytes([first]) for first in (0x00, 0x7F, 0xC0, 0xC2, 0xC3, 0xE0, 0xFF)),
    *(b"\xcc\xff", b"\xcd\xff\x01", b"\xce\xff\x01\x02\x03", b"\xcf\xff\x01\x02\x03\x04\x05\x06\x07"),
    *(b"\xd0\xff", b"\xd1\xff\x01", b"\xd2\xff\x01\x02\x03", b"\xd3\xff\x01\x02\x03\x04\x05\x06\x07"),
    *(b"\xca" + struct.pack(">f", 1.5), b"\xcb" + struct.pack(">d", 0.5)),
    *(b"\xa0", b"\xa1a", b"\xbf" + b"b" * 31, b"\xd9\x03abc", b"\xda\x01\x02" + b"c" * 258),
    b"\xdb\x00\x01\x00\x02" + b"d" * 65_538,
    *(b"\xc4\x03\xff\x00a", b"\xc5\x01\x02" + b"\xfe" * 258, b"\xc6\x00\x01\x00\x02" + b"\xfd" * 65_538),
]
CONTAINERS: list[bytes] = [
    *(b"\x90", b"\x91\x01", b"\x9f" + bytes(15), b"\xdc\x00\x02\x01\x02", b"\xdd\x00\x00\x00\x02\x01\x02"),
    *(b"\xdc\x01\x00" + bytes(256), b"\xdd\x00\x01\x00\x00" + bytes(65_536)),
    *(b"\x80", b"\x81\x01\x02", b"\x8f" + bytes(range(30)), b"\xde\x00\x01\x01\x02", b"\xdf\x00\x00\x00\x01\xa1a\x02"),
    b"\xde\x01\x00" + b"".join(b"\xcd" + struct.pack(">H", key) + b"\x01" for key in range(256)),
    *(b"\x92\x90\x80", b"\x91\x91\x91\x01", b"\x82\xa1a\x92\x01\x02\xa1b\x81\xa1c\x90", b"\x93\x01\x92\x02\x03\xa1a"),
    *(b"\x81\x92\x01\x02\x03", b"\x92\x81\x92\x01\x02\x90\xa1a"),
]
EXTENSIONS: list[bytes] = [
    *(bytes([0xD4 + power, 5]) + b"x" * (1 << power) for power in range(5)),
    *(b"\xc7\x03\x05xyz", b"\xc8\x01\x02\x05" + b"x" * 258, b"\xc9\x00\x01\x00\x02\x05" + b"x" * 65_538),
]
TEXT = b"\xda\x0f\xa0" + b"t" * 4_000
TEXTS = array(9) + TEXT * 9  # more than a piece
NAMED_TEXTS = map_of(9) + b"".join(b"\xa1%d" % key + TEXT for key in range(9))
# Around an element: nothing, a small array, arrays and maps of more than a piece before and after it.
AROUND: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b"\x92", b"\x07"),
    (b"\x93" + TEXTS, TEXTS),
    (b"\x82\xa1a", b"\xa1b" + TEXTS),
    (b"\x92" + NAMED_TEXTS, b""),
]


@pytest.mark.parametrize("around", range(len(AROUND)))
@pytest.mark.parametrize("kind", ["scalars", "containers"])
def test_each_kind_of_element_is_decoded_as_by_msgspec(kind: str, around: int) -> None:
    before, after = AROUND[around]
    for element in SCALARS if kind == "scalars" else CONTAINERS:
        data = before + element + after
        budget = RecordingBudget()
        found = decode(data, budget)
        assert found == unpack(data), element[:9]
        assert budget.elements_taken == elements_of(found), element[:9]


def test_the_elements_of_each_kind_end_where_the_specification_says() -> None:
    """In a new copy of the module, since the table of lengths is made at its import."""
    copy = imported_again(large_msgpack)
    for element in (*SCALARS, *CONTAINERS):
        data = b"\x93" + element + b"\x01" + element
        assert copy.decode(data, RecordingBudget()) == unpack(data), element[:9]
        assert copy.is_too_deep(b"\x91" * 40 + b"\x92" + element + b"\x91" * 9 + b"\x01", 40), element[:9]
    for element in EXTENSIONS:
        with pytest.raises(ValueError, match="extension of type 5"):
            copy.decode(b"\x92" + element + b"\x01", RecordingBudget())
        assert copy.is_too_deep(b"\x91" * 40 + b"\x92" + element + b"\x91" * 9 + b"\x01", 40), element[:9]
    for data in (b"\xc1", b"\x91\xc1", b"\x92" + TEXTS + b"\xc1"):
        with pytest.raises(ValueError, match=f"^byte {len(data) - 1} is not a valid first byte$"):
            copy.decode(data, RecordingBudget())


@pytest.mark.parametrize("around", range(len(AROUND)))
def test_an_extension_is_refused_wherever_it_is(around: int) -> None:
    before, after = AROUND[around]
    for element in EXTENSIONS:
        with pytest.raises(ValueError, match=r"^it contains an extension of type 5, which is not accepted here$"):
            decode(before + element + after, RecordingBudget())


@pytest.mark.parametrize("around", range(len(AROUND)))
@pytest.mark.parametrize("kind", ["scalars", "containers", "extensions"])
def test_a_body_that_ends_too_early_or_too_late_is_refused(kind: str, around: int) -> None:
    before, after = AROUND[around]
    for element in {"scalars": SCALARS, "containers": CONTAINERS, "extensions": EXTENSIONS}[kind]:
        data = before + element
        for end in {len(data) - 1, len(data) - 2, len(before) + 1, len(before) + 2, len(before) + 3}:
            if len(before) < end < len(data):
                with pytest.raises((ValueError, msgspec.MsgspecError), match=r"too early|truncated"):
                    decode(data[:end], RecordingBudget())
        if kind != "extensions":
            with pytest.raises(ValueError, match=r"^there are more bytes after the value$"):
                decode(data + after + b"\x01", RecordingBudget())


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^it ends too early$"):
        decode(b"", RecordingBudget())


def test_a_container_that_claims_more_members_than_bytes_is_refused_at_its_head() -> None:
    for head in (b"\x92", b"\xdc\x00\x02", array(2), b"\x81", b"\xde\x00\x01", map_of(1)):
        for before in (b"", b"\x91", b"\x92" + array(40_000) + bytes(40_000)):
            budget = RecordingBudget()
            with pytest.raises(ValueError, match=r"^it ends too early$"):
                decode(before + head + b"\x01", budget)
            assert budget.elements_taken <= elements_of([[0] * 40_000, 0])


# --- limits ---------------------------------------------------------------------------------------------------------


LIMITED: dict[str, bytes] = {
    "an array": pack([1, 2, "abc"]),
    "nested": pack([[], {}, [[1]], {"a": {"b": 1}}]),
    "a map": pack({"a": 1, "b": [1, 2]}),
    "a text": pack("abc"),
    "bytes": pack(b"\xff\xfe"),
    "text beyond ASCII": pack(["é" * 10, "\U0001f600"]),
    "large arrays": pack([[1, [2]] * 20_000, list(range(20_000))]),
    "a large map": pack({f"{key:05}": [key] for key in range(9_000)}),
    "a map of large arrays": pack({"a": [0] * 40_000, "b": [0] * 40_000, "c": 1}),
    "a large text": pack("a" * 300_000),
    "large bytes": pack(b"\xff" * 300_000),
}


@pytest.mark.parametrize("name", LIMITED)
def test_the_limit_of_elements_is_exact(name: str) -> None:
    data = LIMITED[name]
    elements = elements_of(unpack(data))
    assert decode(data, Budget(Limits(elements=elements))) == unpack(data)
    if elements:
        with pytest.raises(SerializationError, match=f"more than {elements - 1} elements"):
            decode(data, Budget(Limits(elements=elements - 1)))


@pytest.mark.parametrize(
    ("data", "text_bytes"),
    [
        (b"\x01", 1),
        (pack("abc"), 8),  # the head is not ASCII, so that two bytes are counted for each
        (b"\xd9\x03abc", 10),
        (pack("\U0001f600"), 20),
        (pack(b"abcd"), 6),  # bytes take one each
        (pack([1, 2, 3]), 3),
        (pack([b"ab", 1]), 2 * 5),
        (pack([[1, 2], [3]]), 2 * 5),
        (pack({"a": 1}), 2 * 3),
        (pack(["\U0001f600"] * 3), 4 * 15),
        (pack("a" * 300_000), 300_000),  # the head of a large text is not counted
        (pack("é" * 150_000), 600_000),
        (pack(b"\xff" * 300_000), 300_005),
        (pack([0] * 40_000), 40_000),
        (b"\x81\xd9\x01a" + array(40_000) + bytes(40_000), 3 + 40_000),
        (b"\x81\x91\x01" + array(40_000) + bytes(40_000), 2 + 40_000),
    ],
)
def test_memory_is_counted_by_elements_and_text(data: bytes, text_bytes: int) -> None:
    memory = ELEMENT * elements_of(unpack(data)) + text_bytes
    assert decode(data, Budget(Limits(memory=memory))) == unpack(data)
    with pytest.raises(SerializationError, match=f"more than {memory - 1} bytes of memory"):
        decode(data, Budget(Limits(memory=memory - 1)))


DEEP: dict[str, bytes] = {  # five levels each
    "arrays": b"\x91" * 5 + b"\x01",
    "empty": b"\x91" * 4 + b"\x90",
    "maps": b"\x81\xa1a" * 5 + b"\x01",
    "after others": b"\x93\x91\x90\x92\x01\x02\x91\x91\x91\x91\x01",
    "in a key": b"\x81\x91\x91\x91\x91\x01\x02",
    "around a large array": b"\x91\x91\x91\x91" + array(40_000) + bytes(40_000),
    "around a large map": b"\x91\x91\x91\x91" + map_of(9_000) + b"".join(b"\xa4%04d\x01" % key for key in range(9_000)),
    "after a large array": b"\x92" + array(40_000) + bytes(40_000) + b"\x91\x91\x91\x91\x01",
    "in a large array": b"\x91" + array(40_000) + bytes(39_999) + b"\x91\x91\x91\x01",
    "in a large map": b"\x91" + map_of(9_000) + b"".join(b"\xa4%04d\x91\x91\x90" % key for key in range(9_000)),
}


@pytest.mark.parametrize("name", DEEP)
def test_the_limit_of_levels_is_exact(name: str) -> None:
    data = DEEP[name]
    assert repr(decode(data, Budget(Limits(depth=5)))) == repr(unpack(data))
    with pytest.raises(ValueError, match="nested more than 4 levels deep"):
        decode(data, Budget(Limits(depth=4)))
    if name != "in a key":
        assert not is_too_deep(data, 5)
        assert is_too_deep(data, 4)


def test_no_container_is_accepted_where_no_level_is_allowed() -> None:
    assert decode(b"\x01", Budget(Limits(depth=0))) == 1
    with pytest.raises(ValueError, match="nested more than 0 levels deep"):
        decode(b"\x91\x01", Budget(Limits(depth=0)))


def test_a_body_is_too_deep_only_if_its_levels_are_nested() -> None:
    wide = pack([[[1], {"a": 1}], {"b": [2]}, {}, [], "text", b"\x91\x91\x91\x91"] * 20)
    assert not is_too_deep(wide, 3)
    assert is_too_deep(wide, 2)
    assert is_too_deep(b"\x92\x82\x01\x02\x03\x04\x91\x91\x91\x01", 3)
    assert not is_too_deep(b"\x92\x82\x01\x02\x03\x04\x91\x91\x01", 3)
    assert not is_too_deep(b"", 0)
    assert not is_too_deep(b"\x91", 1), "it is not MessagePack: decoding says so"
    assert not is_too_deep(b"\x91" * 9 + b"\xdc\x01", 10)
    assert not is_too_deep(b"\x91\xc1" + b"\x91" * 9, 3)


# --- pieces ---------------------------------------------------------------------------------------------------------


def pieces(data: bytes, *, keeps: bool = True) -> tuple[list[int], int]:
    """The bytes of text that are counted for each piece of a body without a byte above 0x7F, and the rests."""
    budget = RecordingBudget()
    decode(data, budget, keeps=keeps)
    return budget.texts, budget.rests


def test_a_large_array_is_decoded_in_runs_of_at_most_a_piece() -> None:
    runs, rests = pieces(array(100_000) + bytes(100_000))
    assert runs == [PIECE, PIECE, PIECE, 100_000 - 3 * PIECE]
    assert rests == len(runs) + 1


def test_a_run_ends_with_the_last_member_that_is_complete() -> None:
    member = b"\xd9\x06member"  # eight bytes, and two are counted for each
    assert pieces(array(10_000) + member * 10_000)[0] == [2 * PIECE, 2 * PIECE, 160_000 - 4 * PIECE]
    assert pieces(array(10_001) + b"\x01" + member * 10_000)[0][0] == 2 * (PIECE - 7)
    nested = b"\x92\x01\xd9\x04text"
    assert pieces(array(10_001) + b"\x01" + nested * 10_000)[0][0] == 2 * (PIECE - 7)


def test_a_map_with_other_keys_than_strings_is_decoded_in_shorter_runs() -> None:
    by_name = map_of(9_000) + b"".join(b"\xa6%06d\x01" % key for key in range(9_000))
    by_number = map_of(60_000) + b"".join(b"\xce" + struct.pack(">I", key) + b"\x01" for key in range(60_000))
    assert pieces(by_name)[0] == [2 * PIECE, 2 * PIECE, 2 * (9_000 * 8 - 2 * PIECE)]
    assert set(pieces(by_number)[0][:-1]) == {4 * 6 * (PIECE_OF_NUMBERS // 6)}


def test_a_map_with_one_other_key_among_strings_is_decoded_in_shorter_runs_from_there() -> None:
    data = map_of(9_000) + b"\x01\x01" + b"".join(b"\xa6%06d\x01" % key for key in range(8_999))
    runs, _ = pieces(data)
    assert runs[0] == 2 * (2 + (PIECE_OF_NUMBERS - 2) // 8 * 8)
    assert runs[1] == 2 * PIECE


def test_a_long_text_is_decoded_in_chunks() -> None:
    long = b"a" * (2 * CHUNK + 1)
    for data in (pack(long.decode()), pack([long.decode()]), pack({"a": long.decode()})):
        runs, rests = pieces(data)
        assert runs[-3:] == [CHUNK, CHUNK, 1]
        assert rests >= 3
    assert pieces(pack("a" * (CHUNK - 5)))[0] == [4 * CHUNK]  # the length in its head has a byte of 0xFB
    assert pieces(pack("a" * (CHUNK - 4)))[0] == [CHUNK - 4]


def test_a_character_is_never_cut() -> None:
    for character in ("é", "€", "\U0001f600"):
        for offset in range(4):
            value = "a" * offset + character * CHUNK
            budget = RecordingBudget()
            assert text(value.encode(), budget) == value
            assert budget.rests == len(budget.taken) == -(-len(value.encode()) // CHUNK)
            assert budget.elements_taken == 0


@pytest.mark.parametrize("data", [b"\xff", b"a" * CHUNK + b"\xff", b"a" * (CHUNK - 1) + b"\xc3", b"\xc3"])
def test_text_that_is_not_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        text(data, RecordingBudget())


def test_a_text_that_is_only_checked_is_not_kept() -> None:
    budget = RecordingBudget()
    assert text(b"a" * 300_000, budget, keeps=False) == ""
    assert [text for _, text in budget.taken] == [CHUNK, 300_000 - CHUNK]


@pytest.mark.parametrize("name", LIMITED)
def test_a_body_that_is_only_checked_is_counted_but_not_kept(name: str) -> None:
    data = LIMITED[name]
    kept, checked = RecordingBudget(), RecordingBudget()
    value = decode(data, kept)
    found = decode(data, checked, keeps=False)
    assert (checked.taken, checked.rests) == (kept.taken, kept.rests)
    if isinstance(value, list | dict):
        assert found == type(value)()


def test_a_key_has_at_most_a_piece() -> None:
    value = array(40_000) + bytes(40_000)  # too long for a run, so that its key is decoded alone
    key = b"\xda" + struct.pack(">H", PIECE - 3) + b"k" * (PIECE - 3)
    assert decode(b"\x81" + key + value, RecordingBudget()) == {"k" * (PIECE - 3): [0] * 40_000}
    longer = b"\xda" + struct.pack(">H", PIECE - 2) + b"k" * (PIECE - 2)
    with pytest.raises(ValueError, match=f"^a key of a map in it has more than {PIECE} bytes$"):
        decode(b"\x81" + longer + value, RecordingBudget())


def test_the_budget_of_a_key_counts_its_bytes_and_elements() -> None:
    value = array(40_000) + bytes(40_000)
    budget = RecordingBudget()
    assert decode(b"\x81\x92\x01\x02" + value, budget) == {(1, 2): [0] * 40_000}
    assert budget.taken[:3] == [(2, 0), (2, 3), (40_000, 0)]


def test_the_width_of_a_run_is_that_of_its_widest_character() -> None:
    for character in ("a", "é", "\U0001f600"):
        members = pack([character] * 9)[1:]
        budget = RecordingBudget()
        decode(b"\x99" + members, budget)
        assert budget.taken == [(9, 0), (0, len(members) * width(members))]
