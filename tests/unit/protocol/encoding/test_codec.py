"""A payload is decoded as it was encoded, or refused."""

import collections
import datetime
import decimal
import gzip
import os
import time
import tracemalloc
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crew.errors import SerializationError, TooLarge
from crew.protocol.encoding import codec, compression
from crew.protocol.message import Body

KIB, MIB = 1024, 1024 * 1024

whole_text = st.text(st.characters(exclude_categories=["Cs"]))
integers_64 = st.integers(-(2**63), 2**64 - 1)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | whole_text,
    lambda inner: st.lists(inner) | st.dictionaries(whole_text, inner),
    max_leaves=20,
)
msgpack_values = st.recursive(
    st.none() | st.booleans() | integers_64 | st.floats() | whole_text | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(whole_text | integers_64 | st.binary(), inner),
    max_leaves=20,
)


class Name(str):
    """A subclass of str."""


awkward_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
    | st.text().map(Name)
    | st.decimals()
    | st.uuids()
    | st.datetimes()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.frozensets(st.integers())
        | st.sets(st.text())
        | st.dictionaries(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), inner, max_size=4
        )
        | st.dictionaries(st.text().map(Name), inner, max_size=2)
    ),
    max_leaves=8,
)


def as_received(value: Any) -> str:
    """A form to compare values: tuples equal lists, but 1, 1.0 and True differ."""

    def plain(one: Any) -> Any:
        if isinstance(one, list | tuple):
            return [plain(member) for member in one]
        if type(one) is dict:
            return {key: plain(member) for key, member in one.items()}
        return one

    return repr(plain(value))


@given(json_values)
@settings(deadline=None, max_examples=50)
def test_json_values_are_decoded_as_they_were_encoded(value: Any) -> None:
    assert as_received(codec.decode(codec.encode(value))) == as_received(value)


@given(msgpack_values)
@settings(deadline=None, max_examples=50)
def test_msgpack_values_are_decoded_as_they_were_encoded(value: Any) -> None:
    assert as_received(codec.decode(codec.encode(value, "msgpack"))) == as_received(value)


@given(whole_text)
@settings(deadline=None, max_examples=50)
def test_text_is_decoded_as_it_was_encoded(value: str) -> None:
    body = codec.encode(value, "text")
    assert body.content_type == "text/plain"
    assert codec.decode(body) == value


@given(st.binary() | st.binary().map(bytearray) | st.binary().map(lambda data: memoryview(data)))
@settings(deadline=None, max_examples=50)
def test_bytes_are_sent_unchanged_by_default(value: bytes | bytearray | memoryview) -> None:
    body = codec.encode(value)
    assert body.data == bytes(value)
    assert codec.decode(body) == bytes(value)


@given(awkward_values, st.sampled_from(["json", "msgpack", "text", "bytes"]))
@example([b"bytes inside JSON"], "json")
@example({1: "a"}, "json")
@example({True: "a"}, "msgpack")
@example([float("nan")], "json")
@example({"a": [{"b": {1, 2}}]}, "json")
@example([(1, (2, b"x"))], "json")
@example({Name("key"): 1}, "msgpack")
@example(bytearray(b"x"), "msgpack")
@example("\ud800", "text")
@settings(deadline=None, max_examples=150)
def test_no_value_is_decoded_as_another_value(value: Any, serializer: str) -> None:
    try:
        body = codec.encode(value, serializer)
    except SerializationError:
        return
    received = codec.decode(body)
    assert as_received(received) == as_received(bytes(value) if serializer == "bytes" else value)


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        {"a": b"bytes"},
        {1: "int key"},
        {None: 1},
        {1, 2},
        float("nan"),
        [float("inf")],
        object(),
        decimal.Decimal("1.5"),
        uuid.UUID(int=1),
        datetime.datetime(2026, 1, 1),
        "lone \ud800 surrogate",
        Name("a subclass of str"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_would_change_is_an_error_at_the_caller(value: Any) -> None:
    with pytest.raises(SerializationError, match="application/json"):
        codec.encode(value, "json")


def test_the_error_names_the_value_that_cannot_be_encoded() -> None:
    with pytest.raises(SerializationError, match="a bytes"):
        codec.encode({"image": b"\x89PNG"})
    with pytest.raises(SerializationError, match="key 7"):
        codec.encode({7: "seven"})


class Point(NamedTuple):
    x: float
    y: float


def reordered() -> collections.OrderedDict[str, int]:
    """An OrderedDict whose order is not that in which its keys were added."""
    ordered = collections.OrderedDict(first=1, last=2)
    ordered.move_to_end("first")
    return ordered


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("value", "decoded_as"),
    [
        (reordered(), {"last": 2, "first": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({"all": [collections.Counter("a"), {"in": collections.defaultdict(None, x=reordered())}]}, None),
        (type("Rows", (list,), {})([1, (2, 3)]), [1, [2, 3]]),
        ([Point(1, 2)], [[1, 2]]),
    ],
    ids=["OrderedDict", "defaultdict", "Counter", "nested", "list", "namedtuple"],
)
def test_a_subclass_of_dict_list_or_tuple_is_decoded_as_the_plain_type(
    value: Any, decoded_as: Any, serializer: str
) -> None:
    received = codec.decode(codec.encode(value, serializer))

    assert received == (value if decoded_as is None else decoded_as)
    if isinstance(value, collections.OrderedDict):
        assert list(received) == list(value)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"items": [{}, {}, {}, {"when": datetime.datetime(2026, 1, 1)}]}, "$.items[3].when: a datetime"),
        ({1, 2}, "$: a set"),
        ({"a b": {"it's": b"x"}}, """$['a b']["it's"]: a bytes"""),
        ({"deep": [[{"by": {2: 1}}]]}, "$.deep[0][0].by: it has the key 2"),
        ({"rows": (1, [Point(1, float("inf"))])}, "$.rows[1][0][1]: JSON has no number inf"),
        ({"name": ["good", "bad \ud800"]}, "$.name[1]: "),
        ({"fine": 1, "bad \ud800": 1}, "$: "),
        (collections.Counter({("a", "b"): 2}), "$: it has the key ('a', 'b')"),
        ([1, {"of": decimal.Decimal("1.5")}, {"of": object()}], "$[1].of: a Decimal"),
        ({"k" * 100: object()}, "$['" + "k" * 59 + "...]: a object"),
    ],
)
def test_the_error_has_the_path_of_the_value_in_the_payload(payload: Any, path: str) -> None:
    with pytest.raises(SerializationError) as raised:
        codec.encode(payload, "json")
    assert str(raised.value).startswith(f"application/json cannot carry this payload: {path}")


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"sizes": [1, 2**64]}, "$.sizes[1]: "),
        ({b"raw": {1: {(1, 2): 3}}}, "$[b'raw'][1]: it has the key (1, 2)"),
        ([{"x": set()}], "$[0].x: a set"),
    ],
)
def test_the_error_of_msgpack_has_the_path_as_well(payload: Any, path: str) -> None:
    with pytest.raises(SerializationError) as raised:
        codec.encode(payload, "msgpack")
    assert str(raised.value).startswith(f"application/msgpack cannot carry this payload: {path}")


def test_the_error_has_the_path_where_a_payload_contains_itself() -> None:
    tree: dict[str, Any] = {"name": "root", "children": [{"name": "leaf"}]}
    tree["children"][0]["parent"] = tree
    with pytest.raises(SerializationError, match=r"\$\.children\[0\]\.parent: it contains itself"):
        codec.encode(tree)


def test_the_path_in_a_deep_or_large_payload_is_found_within_seconds() -> None:
    deep: Any = object()
    for _ in range(400):
        deep = [deep]
    begun = time.monotonic()
    with pytest.raises(SerializationError, match=r"\$(\[0\]){20,60}: "):
        codec.encode(deep)
    with pytest.raises(SerializationError, match=r"\$(\[199999\](\.x)?)?: a set"):
        codec.encode([{"x": 1}] * 199_999 + [{"x": set()}])
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("depth", [100, 100_000])
def test_a_deep_payload_with_subclasses_is_encoded_or_refused(depth: int) -> None:
    deep: Any = collections.OrderedDict(x=1)
    for _ in range(depth):
        deep = [deep]
    try:
        received = codec.decode(codec.encode(deep))
    except SerializationError:
        assert depth > 100
    else:
        for _ in range(depth):
            (received,) = received
        assert received == {"x": 1}


def test_a_json_body_may_begin_with_a_byte_order_mark() -> None:
    assert codec.decode(Body(b"\xef\xbb\xbf" + b'{"a":1}', codec.JSON)) == {"a": 1}
    with pytest.raises(SerializationError, match="not valid application/json"):
        codec.decode(Body(b"\xef\xbb\xbf", codec.JSON))


def test_a_payload_that_contains_itself_is_an_error() -> None:
    itself: list[Any] = []
    itself.append(itself)
    for serializer in ("json", "msgpack"):
        with pytest.raises(SerializationError):
            codec.encode(itself, serializer)


@pytest.mark.parametrize(
    ("serializer", "value"), [("text", b"bytes"), ("text", None), ("bytes", "text"), ("bytes", [1])]
)
def test_the_serializers_text_and_bytes_accept_no_other_type(serializer: str, value: Any) -> None:
    with pytest.raises(SerializationError, match=r"cannot carry this payload: a \w+ is not (a str|bytes)$"):
        codec.encode(value, serializer)


@pytest.mark.parametrize("serializer", ["pickle", "", "JSON", 7, ["json"]])
def test_a_serializer_that_does_not_exist_is_a_value_error(serializer: Any) -> None:
    with pytest.raises(ValueError, match="serializer must be one of json, msgpack, text, bytes") as refused:
        codec.encode(None, serializer)
    assert str(refused.value).endswith(f", not {serializer!r}")


@given(
    data=st.binary(max_size=200)
    | st.binary(max_size=200).map(gzip.compress)
    | json_values.map(lambda v: codec.encode(v).data),
    content_type=st.sampled_from([None, "", codec.JSON, codec.MSGPACK, codec.TEXT, codec.BYTES, "text/plain; x=1"])
    | st.text(),
    encoding=st.sampled_from([None, "", "gzip", "identity"]) | st.text(),
)
@settings(deadline=None, max_examples=150)
def test_any_body_is_decoded_or_is_a_serialization_error(
    data: bytes, content_type: str | None, encoding: str | None
) -> None:
    try:
        codec.decode(Body(data, content_type, encoding))
    except SerializationError as error:
        assert str(error)


@pytest.mark.parametrize("content_type", [codec.JSON, codec.MSGPACK])
def test_a_body_with_endless_nesting_is_a_serialization_error(content_type: str) -> None:
    nested = b"[" * 100_000 if content_type == codec.JSON else b"\x91" * 100_000
    with pytest.raises(SerializationError):
        codec.decode(Body(nested, content_type))


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/pickle", "application/json2", "text/html"]
)
def test_a_content_type_that_is_not_accepted_is_refused_undecoded(content_type: str) -> None:
    with pytest.raises(SerializationError, match=f"^content type '{content_type}' is not accepted here, only "):
        codec.decode(Body(b"cos\nsystem\n(S'true'\ntR.", content_type))


def test_the_receiver_chooses_the_content_types_that_it_accepts() -> None:
    body = codec.encode("a", "msgpack")
    with pytest.raises(SerializationError, match="only application/json"):
        codec.decode(body, allowed={codec.JSON})
    assert codec.decode(body, allowed={codec.MSGPACK}) == "a"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", " application/json "])
def test_a_content_type_may_have_parameters_capitals_and_spaces(content_type: str) -> None:
    assert codec.decode(Body(b"[1]", content_type)) == [1]


def test_a_body_without_a_content_type_is_bytes() -> None:
    assert codec.decode(Body(b"\xff", None)) == b"\xff"


def test_an_unknown_content_encoding_is_refused() -> None:
    with pytest.raises(SerializationError, match="'br'"):
        codec.decode(Body(b"[1]", codec.JSON, "br"))


# --- compression ----------------------------------------------------------------------------------------------------


def test_a_large_body_is_compressed() -> None:
    body = codec.encode("a" * 100 * KIB)
    assert body.content_encoding == "gzip"
    assert len(body.data) < KIB
    assert codec.decode(body) == "a" * 100 * KIB


def test_a_small_body_is_not_compressed() -> None:
    assert codec.encode(b"a" * 32 * KIB).content_encoding is None
    assert codec.encode(b"a" * (32 * KIB + 1)).content_encoding == "gzip"


def test_a_body_that_compression_would_not_make_smaller_is_not_compressed() -> None:
    noise = os.urandom(64 * KIB)
    body = codec.encode(noise)
    assert body.content_encoding is None
    assert body.data == noise


@pytest.mark.parametrize("size", [1, compression.ABOVE + 1, codec.QUICK])
def test_a_body_that_is_compressed_quickly_is_compressed_on_the_event_loop(size: int) -> None:
    payload = "a" * (size - 2)  # and two quotation marks
    assert codec.encode_on_loop(payload) == codec.encode(payload)


@pytest.mark.parametrize("payload", [b"a" * (codec.QUICK + 1), os.urandom(codec.QUICK + 1), "a" * codec.QUICK])
def test_a_larger_body_is_compressed_later_with_the_same_result(payload: Any) -> None:
    body = codec.encode_on_loop(payload)
    assert body.to_compress
    assert body.content_encoding is None
    assert codec.compressed(body, codec.MAX_BODY) == codec.encode(payload)


def test_the_size_limit_of_a_body_counts_compressed_bytes() -> None:
    body = codec.encode_on_loop(b"a" * MIB, max_size=10_000)
    assert len(codec.compressed(body, 10_000).data) < 10_000
    body = codec.encode_on_loop(os.urandom(MIB), max_size=10_000)
    with pytest.raises(TooLarge, match=r"more than the limit of a message \(10000\)"):
        codec.compressed(body, 10_000)
    with pytest.raises(TooLarge):  # a smaller one at once
        codec.encode_on_loop(os.urandom(10_001), max_size=10_000)


def test_an_encoded_body_is_sent_as_it_is() -> None:
    body = Body(b"a" * MIB, codec.BYTES)
    assert codec.encode_on_loop(body) is body
    with pytest.raises(TooLarge):
        codec.encode_on_loop(body, max_size=1)


def test_not_a_number_is_found_among_many_numbers() -> None:
    numbers: list[Any] = [float(i) for i in range(1000)]
    codec.encode([*numbers, 1, None, "a", True])
    for wrong in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(SerializationError, match=r"\$\[1000\]"):
            codec.encode([*numbers, wrong])
        assert codec.decode(codec.encode([*numbers, float("inf")], "msgpack"))[-1] == float("inf")


def test_a_compressed_body_is_standard_gzip() -> None:
    assert gzip.decompress(codec.encode(b"a" * 100 * KIB).data) == b"a" * 100 * KIB


def test_a_gzip_bomb_is_refused_before_it_fills_memory() -> None:
    bomb = Body(gzip.compress(bytes(32 * MIB), 1), codec.BYTES, "gzip")
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError, match="decompresses to more than the 1048576 bytes"):
            codec.decode(bomb, max_size=MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_refused_with_default_settings() -> None:
    bomb = Body(gzip.compress(bytes(64 * MIB + 1), 1), codec.BYTES, "gzip")
    with pytest.raises(SerializationError, match="decompresses to more"):
        codec.decode(bomb)


def test_a_body_may_have_exactly_the_maximum_size() -> None:
    body = Body(gzip.compress(bytes(1000)), codec.BYTES, "gzip")
    assert codec.decode(body, max_size=1000) == bytes(1000)
    with pytest.raises(SerializationError):
        codec.decode(body, max_size=999)
    with pytest.raises(SerializationError):
        codec.decode(Body(bytes(1000), codec.BYTES), max_size=999)


def test_an_incomplete_gzip_body_is_an_error() -> None:
    whole = gzip.compress(b"a" * 1000)
    for end in (0, 5, len(whole) // 2, len(whole) - 1):
        with pytest.raises(SerializationError):
            codec.decode(Body(whole[:end], codec.TEXT, "gzip"))


@pytest.mark.parametrize("more", [gzip.compress(b"b"), b"junk"], ids=["a second member", "junk"])
def test_data_after_the_first_gzip_member_is_not_silently_dropped(more: bytes) -> None:
    """RFC 1952 §2.2: a gzip file is a series of members, and the value is all of them."""
    body = Body(gzip.compress(b"a") + more, codec.BYTES, "gzip")
    try:
        assert codec.decode(body) == b"ab"
    except SerializationError:
        return


def test_a_body_that_is_too_large_for_a_message_is_an_error_at_the_caller() -> None:
    with pytest.raises(SerializationError, match=r"more than the limit of a message \(16777216\)"):
        codec.encode(os.urandom(16 * MIB + 1))
