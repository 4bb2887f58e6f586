"""JSON that is decoded in pieces: the same values as from msgspec, exact limits, and pieces of a limited size."""

import json
import math
import random
import struct
import time
from typing import Any

import msgspec
import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import json_cut, large_json
from crew.protocol.encoding.large_json import CHUNK, PIECE, WRONG_GUESSES, decode, is_too_deep
from crew.protocol.encoding.limits import ELEMENT, Budget, Limits
from tests.support.decoding import RecordingBudget, imported_again

LONG = b"x" * PIECE


def elements_of(value: Any) -> int:
    """Members of all containers in `value`, a name and a value count one each; an empty container counts one."""
    if isinstance(value, dict):
        return max(2 * len(value), 1) + sum(map(elements_of, value.values()))
    if isinstance(value, list):
        return max(len(value), 1) + sum(map(elements_of, value))
    return 0


def texts(data: bytes) -> list[int]:
    """The bytes of text that are counted for each piece."""
    budget = RecordingBudget()
    decode(data, budget)
    return budget.texts


VALUES: dict[str, Any] = {
    "a number": -1.5e3,
    "true": True,
    "null": None,
    "a string": 'a "quoted" \\ text, [{:}] \n é \U0001f600',
    "an empty string": "",
    "an empty array": [],
    "an empty object": {},
    "an array": [1, "a", None, True, 1.5],
    "an object": {"a": 1, "b": "c", "": None},
    "nested": [[], {}, [[1, [2]], {"a": {"b": [{}]}}], ",[]{}:"],
    "ten levels": [[[[[[[[[[1], 2], 3], 4], 5], 6], 7], 8], 9], 10],
    "ten objects": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}, "b": 2},
    "a long string": "a" * (PIECE + 1),
    "a long string in an array": [1, "é" * PIECE, 2],
    "a long string in an object": {"a": "é" * PIECE, "b": 2},
    "large arrays": [[1, [2]] * 4_000, list(range(8_000)), []],
    "a large object": {f"{key:05}": [key, {}] for key in range(3_000)},
    "an object of large values": {"a": [0] * 20_000, "b": {"c": "d" * 40_000}, "e": 1},
    "escapes": ['\\"', "\\\\", '"' * 40_000, "\\" * 40_000],
}
FORMATS: dict[str, Any] = {
    "compact": {"separators": (",", ":")},
    "usual": {},
    "indented": {"indent": "\t"},
    "ASCII": {"ensure_ascii": True},
}


def encoded(name: str, form: str) -> bytes:
    return json.dumps(VALUES[name], **{"ensure_ascii": False, **FORMATS[form]}).encode()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", VALUES)
def test_each_value_is_decoded_as_by_msgspec(name: str, form: str) -> None:
    budget = RecordingBudget()
    assert decode(b" \t\r\n" + encoded(name, form) + b" \t\r\n", budget) == VALUES[name]
    assert budget.elements_taken == elements_of(VALUES[name])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_is_only_checked_is_counted_but_not_kept(name: str, form: str) -> None:
    kept, checked = RecordingBudget(), RecordingBudget()
    value = decode(encoded(name, form), kept)
    found = decode(encoded(name, form), checked, keeps=False)
    assert (checked.taken, checked.rests) == (kept.taken, kept.rests)
    if isinstance(value, list | dict):
        assert found == type(value)()


def test_runs_are_found_by_new_expressions() -> None:
    """In a new copy of the module, since the expressions are made at its import."""
    copy = imported_again(large_json)
    budget = RecordingBudget()
    for name, value in VALUES.items():
        assert copy.decode(encoded(name, "usual"), budget) == value
    for levels in (1, 6):
        member = b"[" * levels + b"1" + b"]" * levels + b","
        budget = RecordingBudget()
        copy.decode(b"[" + member * 500 + b"1]", budget)
        assert budget.texts == [500 * len(member) - 1]
    member = b"[" * 7 + b"1" + b"]" * 7 + b","
    budget = RecordingBudget()
    copy.decode(b"[" + member * 500 + b"1]", budget)
    assert not budget.texts, "a run has at most six levels"


INVALID: dict[bytes, str] = {
    b"": "it ends too early",
    b" ": "it ends too early",
    b"[": "it ends too early",
    b"[1": "it ends too early",
    b"[1,": "it ends too early",
    b'{"a":': "it ends too early",
    b'{"a":1': "it ends too early",
    b"1 1": "there is more text after the value",
    b"[] ]": "there is more text after the value",
    b'"a""': "there is more text after the value",
    b"[1,]": "there is a comma without a value after it",
    b"[[1],]": "there is a comma without a value after it",
    b'{"a":1,}': "there is a comma without a value after it",
    b"[,1]": "there is a comma without a value before it",
    b"[ ,1]": "there is a comma without a value before it",
    b"[1,,1]": "JSON is malformed",
    b"[1 1]": "a comma or the end of an array or object is missing",
    b"[1}": "a comma or the end of an array or object is missing",
    b'{"a":1]': "a comma or the end of an array or object is missing",
    b"[}": "a comma or the end of an array or object is missing",
    b"{]": "a comma or the end of an array or object is missing",
    b"{1:2}": "the name of a member is missing",
    b'{"a"}': "the name of a member is missing",
    b'{"a",1}': "JSON is malformed|missing",
    b'{"a":}': "a value is missing",
    b":": "a value is missing",
    b"]": "a value is missing",
    b"[:1]": "a value is missing",
    b"x": "JSON is malformed",
    b"[tru,1]": "JSON is malformed|truncated",
    b"[1.,1]": "JSON is malformed|invalid number",
    b'"\\x"': "JSON is malformed|invalid escape",
    b'"a': "it ends too early",
    b'["a': "it ends too early",
    b'"\xff"': "Invalid UTF-8|not valid",
    b'"' + LONG: "it ends too early",
    b'"' + LONG + b'\\x"': "invalid escape",
    b'"' + LONG + b"\\": "a string has an invalid escape, or no end",
    b"1" * (PIECE + 1): f"a number has more than {PIECE} characters",
    b'{"' + LONG + b'":1}': f"the name of a member is missing, or has more than {PIECE} bytes",
}


@pytest.mark.parametrize("data", INVALID, ids=lambda data: repr(data[:12]))
@pytest.mark.parametrize("around", [(b"", b""), (b"[" + b'["text"],' * 5_000, b"]")], ids=["alone", "in an array"])
def test_invalid_json_is_refused_with_a_reason_and_its_place(data: bytes, around: tuple[bytes, bytes]) -> None:
    before, after = around
    with pytest.raises(ValueError, match=r"\(at byte \d+ or soon after\)$") as refused:
        decode(before + data + after, RecordingBudget())
    if not before:
        assert any(reason in str(refused.value) for reason in INVALID[data].split("|")), refused.value


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b" [] 1", "there is more text after the value (at byte 4 or soon after)"),
        (b"[1,]", "there is a comma without a value after it (at byte 3 or soon after)"),
        (b"[ ,1]", "there is a comma without a value before it (at byte 1 or soon after)"),
        (b"[1 1]", "a comma or the end of an array or object is missing (at byte 3 or soon after)"),
        (b"[[1],  ", "it ends too early (at byte 7 or soon after)"),
        (b"[1,tru]", "Input data was truncated (at byte 6 or soon after)"),
        (
            b'{"a":1,"b"}',
            f"the name of a member is missing, or has more than {PIECE} bytes (at byte 7 or soon after)",
        ),
        (b'"' + LONG + b"\\", f"a string has an invalid escape, or no end (at byte {PIECE + 1} or soon after)"),
    ],
)
def test_the_error_has_the_place_of_the_mistake(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        decode(data, RecordingBudget())
    assert str(refused.value) == sentence


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", VALUES)
def test_the_limit_of_elements_is_exact(name: str, form: str) -> None:
    data, elements = encoded(name, form), elements_of(VALUES[name])
    assert decode(data, Budget(Limits(elements=elements))) == VALUES[name]
    if elements:
        with pytest.raises(SerializationError, match=f"more than {elements - 1} elements"):
            decode(data, Budget(Limits(elements=elements - 1)))


@pytest.mark.parametrize(
    ("data", "text_bytes"),
    [
        (b'"abc"', 5),
        ('"é"'.encode(), 2 * 4),
        ('"\U0001f600"'.encode(), 4 * 6),
        (b'["abc"]', 5),
        (b'["abc","d"]', 5 + 3),
        (b"[1,2,3]", 3),
        (b'[ "a", "b" , 1]', 10),
        (b'{"a":1,"b":2,"c":3}', 11),
        ('[["é",1],2,3]'.encode(), 2 * 10),
        ('["é",["\U0001f600"],3]'.encode(), 4 * 13),
        (b'"' + b"a" * 300_000 + b'"', 300_000),
        (f'"{"é" * 150_000}"'.encode(), 600_000),
    ],
)
def test_memory_is_counted_by_elements_and_text(data: bytes, text_bytes: int) -> None:
    value = msgspec.json.decode(data)
    memory = ELEMENT * elements_of(value) + text_bytes
    assert decode(data, Budget(Limits(memory=memory))) == value
    with pytest.raises(SerializationError, match=f"more than {memory - 1} bytes of memory"):
        decode(data, Budget(Limits(memory=memory - 1)))


def test_commas_and_brackets_in_strings_are_not_elements() -> None:
    data = json.dumps([",[{:}]," * 1_000, 1, {",:": 2}, "x"]).encode()
    assert decode(data, Budget(Limits(elements=6))) == json.loads(data)
    with pytest.raises(SerializationError):
        decode(data, Budget(Limits(elements=5)))


DEEP: dict[str, bytes] = {  # five levels each
    "arrays": b"[[[[[1]]]]]",
    "empty": b"[[[[[]]]]]",
    "objects": b'{"a":{"a":{"a":{"a":{"a":1}}}}}',
    "in a run": b"[[[[[1]]]],2]",
    "after a run": b"[[1],[2],[[[[1]]]]]",
    "strings with brackets": b'["[[[[[[[[",[[[["{{"]]]],1]',
    "in a large array": b"[" + b"1," * 40_000 + b"[[[[1]]]]]",
    "runs in a large array": b"[" + b"[[[[1]]]]," * 10_000 + b"1]",
    "runs at the beginning": b"[" + b"[[[[1]]]]," * 10_000 + b"1," * 40_000 + b"1]",
    "a large array": b"[[[[" + b"[" + b"1," * 40_000 + b"1]]]]]",
}


@pytest.mark.parametrize("name", DEEP)
def test_the_limit_of_levels_is_exact(name: str) -> None:
    data = DEEP[name]
    assert decode(data, Budget(Limits(depth=5))) == json.loads(data)
    with pytest.raises(ValueError, match="nested more than 4 levels deep"):
        decode(data, Budget(Limits(depth=4)))
    assert not is_too_deep(data, 5)
    assert is_too_deep(data, 4)


def test_a_run_of_six_levels_is_taken_only_where_so_many_are_allowed() -> None:
    for depth in (6, 7, 8, 20):
        nested = b"[" * (depth - 1) + b"1" + b"]" * (depth - 1)
        data = b"[" + (nested + b",") * 3 + nested + b"]"
        assert decode(data, Budget(Limits(depth=depth))) == json.loads(data)
        deeper = b"[" + (b"[" + nested + b"],") * 3 + b"1]"
        with pytest.raises(ValueError, match=f"nested more than {depth} levels deep"):
            decode(deeper, Budget(Limits(depth=depth)))


@pytest.mark.parametrize("depth", [1, 7, 8, 9, 16, 17, 40])
def test_is_too_deep_counts_levels_outside_of_strings(depth: int) -> None:
    allowed = b"[" * depth + b"1" + b"]" * depth
    assert not is_too_deep(allowed, depth)
    assert is_too_deep(b"[" + allowed + b"]", depth)
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    assert not is_too_deep(objects, depth)
    assert is_too_deep(b'{"a":' + objects + b"}", depth)
    in_strings = b'["' + b"[{" * 50 + b'",' + b"[" * (depth - 1) + b'"]]}"' + b"]" * (depth - 1) + b"]"
    assert not is_too_deep(in_strings, depth)
    assert is_too_deep(b"[" + in_strings + b"]", depth)
    wide = b"[" + b"[]," * 200 + b"{}]"
    assert is_too_deep(wide, depth) is (depth == 1)


# --- pieces ---------------------------------------------------------------------------------------------------------


def test_a_large_array_is_decoded_in_runs_of_at_most_a_piece() -> None:
    member = b"1234567,"
    assert PIECE % len(member) == 0
    assert texts(b"[" + member * 10_000 + b"1]") == [PIECE - 1, PIECE - 1, 80_000 - 2 * PIECE - 1]
    assert texts(b"[" + member[1:] + member * 10_000 + b"1]")[0] == PIECE - 2


def test_other_threads_may_run_after_each_piece() -> None:
    budget = RecordingBudget()
    decode(b"[" + b"1234567," * 20_000 + b"1]", budget)
    assert budget.rests == 5 + 1
    budget = RecordingBudget()
    decode(b'"' + b"a" * (2 * CHUNK + 1) + b'"', budget)
    assert budget.rests == 3
    budget = RecordingBudget()
    decode(b" " * (3 * CHUNK) + b"1", budget)
    assert budget.rests == 3


def test_a_long_string_is_decoded_in_chunks() -> None:
    assert texts(b'"' + b"a" * (2 * CHUNK + 1) + b'"') == [CHUNK, CHUNK, 1]
    assert texts(b'"' + b"a" * (PIECE - 2) + b'"') == [PIECE]
    assert texts(b'"' + b"a" * (PIECE - 1) + b'"') == [PIECE - 1]
    assert texts(b'["' + b"a" * CHUNK + b'",1]')[0] == CHUNK


@pytest.mark.parametrize(
    "character", ["é", "€", "\U0001f600", r"\u00e9", r"\ud83d\ude00", r"\uD83D\uDE00", r"\n", r"\\", r"\""]
)
def test_a_character_is_never_cut(character: str) -> None:
    size = len(character.encode())
    for offset in range(size):
        text = '"' + "a" * offset + character * (CHUNK // size + 1) + '"'
        budget = RecordingBudget()
        assert decode(text.encode(), budget) == json.loads(text)
        assert len(budget.texts) == 2


@pytest.mark.parametrize("character", ["é", "\u2000", "\U0001f600"])
def test_a_character_is_not_cut_in_a_string_whose_end_is_not_guessed(character: str) -> None:
    size = len(character.encode())
    for offset in range(size):
        text = '"\\"' + "a" * offset + character * (CHUNK // size + 1) + '"'
        assert decode(text.encode(), RecordingBudget()) == json.loads(text)


def test_text_is_counted_by_its_width_in_each_piece() -> None:
    member = '"é€",'.encode()
    assert texts(b"[" + member * 10_000 + b"1]")[0] == 2 * (PIECE // len(member) * len(member) - 1)
    quoted = 'é\\"'.encode() * 100_000
    assert sum(texts(b'"' + quoted + b'"')) == 2 * len(quoted)


def test_a_run_is_no_longer_guessed_after_some_wrong_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs as much as its piece."""
    guesses: list[int] = []

    def inside_a_string(text: bytes) -> int:
        guesses.append(len(text))
        return text.index(b",")

    monkeypatch.setattr(json_cut, "members_end", inside_a_string)
    data = b"[" + b'"a,b",' * 100_000 + b"1]"
    assert decode(data, RecordingBudget()) == json.loads(data)
    assert len(guesses) == WRONG_GUESSES


@pytest.mark.parametrize(
    "value", [list(range(100_000)), {f"{key:06}": key for key in range(50_000)}], ids=["array", "object"]
)
def test_each_run_of_a_large_container_is_guessed(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guesses: list[int] = []
    members_end = json_cut.members_end

    def recorded(text: bytes) -> int:
        guesses.append(members_end(text))
        return guesses[-1]

    monkeypatch.setattr(json_cut, "members_end", recorded)
    data = msgspec.json.encode(value)
    assert decode(data, RecordingBudget()) == value
    assert len([guess for guess in guesses if guess]) == len(data) // PIECE


def test_the_end_of_a_string_is_no_longer_guessed_after_some_wrong_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses: list[int] = []

    def inside_an_escape(text: bytes) -> tuple[int, bool]:
        guesses.append(len(text))
        return text.index(b"\\") + 1, False

    monkeypatch.setattr(json_cut, "string_end", inside_an_escape)
    data = b'"' + b"abc\\n" * (CHUNK * 10 // 5) + b'"'
    assert decode(data, RecordingBudget()) == json.loads(data)
    assert len(guesses) == WRONG_GUESSES


def test_each_chunk_of_a_long_string_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses: list[tuple[int, bool]] = []
    string_end = json_cut.string_end

    def recorded(text: bytes) -> tuple[int, bool]:
        guesses.append(string_end(text))
        return guesses[-1]

    monkeypatch.setattr(json_cut, "string_end", recorded)
    decode(b'"' + b"a" * (10 * CHUNK + 1) + b'"', RecordingBudget())
    assert guesses == [(CHUNK, False)] * 10 + [(1, True)]


def test_a_name_has_at_most_a_piece() -> None:
    longest = b"n" * (PIECE - 3)
    value = b"[" + b"1," * 20_000 + b"1]"
    assert list(decode(b'{"' + longest + b'":' + value + b"}", RecordingBudget())) == [longest.decode()]
    with pytest.raises(ValueError, match="the name of a member is missing, or has more than"):
        decode(b'{"n' + longest + b'":' + value + b"}", RecordingBudget())


def test_a_number_has_at_most_a_piece() -> None:
    number = b"0." + b"1" * (PIECE - 2)
    assert decode(number, RecordingBudget()) == pytest.approx(1 / 9)
    assert decode(b"[1," + number + b"]", RecordingBudget()) == [1, pytest.approx(1 / 9)]
    with pytest.raises(ValueError, match=f"a number has more than {PIECE} characters"):
        decode(number + b"1", RecordingBudget())


def test_many_spaces_are_skipped_in_chunks() -> None:
    spaces = b" \n\t\r" * (CHUNK // 2)
    text = spaces.join([b"", b"[", b"1", b",", b'{"a":', b"2", b"}", b"]", b""])
    assert decode(text, RecordingBudget()) == [1, {"a": 2}]


def test_numbers_with_large_exponents_take_little_more_time_than_others() -> None:
    """msgspec takes 300 times as long for each of them."""
    taken: list[float] = []
    for number in (b"1.25", b"1e308"):
        text = b"[" + b",".join([number] * 300_000) + b"]"
        began = time.thread_time()
        assert decode(text, RecordingBudget()) == [float(number)] * 300_000
        taken.append(time.thread_time() - began)
    assert taken[1] < 50 * taken[0]


@pytest.mark.parametrize("form", ["{!r}", "{:.17e}", "{:E}", "{:.30g}"])
def test_numbers_beside_those_with_large_exponents_are_the_same(form: str) -> None:
    finite = filter(math.isfinite, struct.unpack(f"{20_000}d", random.Random(17).randbytes(160_000)))
    numbers = [*map(form.format, finite), "0.1", "-0.0", "1e5", "5e-324", "17", str(2**70)]
    text = f"[{'1e308,' * PIECE}{','.join(numbers)}]".encode()
    assert list(map(repr, decode(text, RecordingBudget()))) == list(map(repr, msgspec.json.decode(text)))


def test_a_number_that_is_too_large_is_refused_beside_those_with_large_exponents() -> None:
    with pytest.raises(ValueError, match="Number out of range"):
        decode(b"[" + b"1e308," * PIECE + b"1e309]", RecordingBudget())


@pytest.mark.parametrize("rest", [b"1," * PIECE + b"1]", b"1]"])
def test_a_number_that_is_too_large_is_refused_in_a_run_of_others(rest: bytes) -> None:
    with pytest.raises(ValueError, match="Number out of range"):
        decode(b"[" + b"1e308," * PIECE + b"1e309," + rest, RecordingBudget())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'[ ,"' + b"a" * 2 * PIECE + b'"]', "there is a comma without a value before it"),
        (b'["' + b"a" * 2 * PIECE + b'",]', "there is a comma without a value after it"),
        (b'{"a":"' + b"a" * 2 * PIECE + b'",}', "there is a comma without a value after it"),
    ],
    ids=["before a long string", "after a long string", "after the member of an object"],
)
def test_a_comma_without_a_value_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(text, RecordingBudget())


def test_a_letter_does_not_begin_an_array() -> None:
    with pytest.raises(ValueError, match="JSON is malformed"):
        decode(b"X1]", RecordingBudget())


def test_an_error_names_one_place() -> None:
    with pytest.raises(ValueError, match="JSON is malformed") as refused:
        decode(b"[" + b"1," * PIECE + b"?]", RecordingBudget())
    assert str(refused.value).count("byte") == 1


@pytest.mark.parametrize("character", ["é", "\U0001f600"])
def test_a_chunk_without_a_guess_ends_at_no_escape(character: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_cut, "string_end", lambda text: (0, False))
    for offset in range(1, 4):
        text = '"' + "a" * (CHUNK - 2 - offset) + "\\n" + character * 2 + '"'
        assert decode(text.encode(), RecordingBudget()) == json.loads(text)
