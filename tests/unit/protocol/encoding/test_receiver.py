"""What a receiver accepts, by its settings; bodies that are checked, unpacked or passed on."""

import gzip
import sys
import types
from typing import Any

import pytest

from crew.errors import SerializationError, SettingsError, TooLarge
from crew.protocol.encoding import codec
from crew.protocol.message import Body

SETTINGS = types.SimpleNamespace(
    accept=["json"], max_payload=60_000, max_elements=20_000, max_depth=5, max_memory=2_500_000
)
MARK = b"\xef\xbb\xbf"


def refused(decode: codec.Decode, body: Body) -> str:
    with pytest.raises(SerializationError) as error:
        decode(body)
    return str(error.value)


def test_the_decoder_of_a_receiver_has_its_settings() -> None:
    decode = codec.decoder_of(SETTINGS)
    assert decode(Body(b"[1]", codec.JSON)) == [1]
    assert "not accepted here, only application/json" in refused(decode, Body(b"\x01", codec.MSGPACK))
    assert "more than the 60000 accepted here" in refused(decode, Body(b" " * 60_001, codec.JSON))
    assert "nested more than 5 levels" in refused(decode, Body(b"[[[[[[1]]]]]]", codec.JSON))
    assert "more than 20000 elements" in refused(decode, Body(b"[" + b"1," * 20_000 + b"1]", codec.JSON))
    wide = f'"{"é" * 10_000}", "{chr(0x1F600) * 9_000}"'.encode()
    tight = types.SimpleNamespace(**{**vars(SETTINGS), "max_memory": 100_000})
    assert "more than 100000 bytes of memory" in refused(codec.decoder_of(tight), Body(b"[" + wide + b"]", codec.JSON))


def test_a_check_asks_to_keep_nothing() -> None:
    asked: list[Any] = []

    def decode(body: Body, keeps: bool = True) -> None:
        asked.append(keeps)

    codec.check(Body(b"1", codec.JSON), decode)
    assert asked == [False]


def test_the_error_lists_what_a_receiver_accepts() -> None:
    decode = codec.decoder(["text", "json"], 10)
    assert refused(decode, Body(b"1", codec.BYTES)).endswith("only application/json, text/plain")


def test_a_receiver_of_nothing_says_so() -> None:
    assert refused(codec.decoder([], 10), Body(b"1", codec.JSON)).endswith("is not accepted here, only nothing")


def test_an_unknown_serializer_in_the_settings_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^serializer 'pickle' does not exist: use json, msgpack, text, bytes$"):
        codec.decoder(["json", "pickle"], 10)


@pytest.mark.parametrize("size", [5, 50_000])
def test_a_check_raises_what_decoding_raises_and_keeps_nothing(size: int) -> None:
    decode = codec.decoder(["json"], 60_000)
    codec.check(Body(b"[1]".ljust(size), codec.JSON), decode)
    with pytest.raises(SerializationError, match="not valid application/json"):
        codec.check(Body(b"[1".ljust(size), codec.JSON), decode)
    assert decode(Body(b"[1]".ljust(50_000), codec.JSON), keeps=False) == []  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (Body(MARK + b"1", codec.JSON), Body(b"1", codec.JSON)),
        (Body(MARK + b"1", "Application/JSON; x=y", "identity"), Body(b"1", "Application/JSON; x=y", "identity")),
        (Body(b"1", codec.JSON), Body(b"1", codec.JSON)),
        (Body(MARK + b"1", codec.TEXT), Body(MARK + b"1", codec.TEXT)),
    ],
)
def test_a_byte_order_mark_is_removed_from_json_only(body: Body, expected: Body) -> None:
    assert codec.without_mark(body) == expected
    if body.data == b"1":
        assert codec.without_mark(body) is body


def test_a_body_is_decompressed_up_to_a_size() -> None:
    data = b"x" * 1_000
    packed = Body(gzip.compress(data), codec.TEXT, "gzip")
    assert codec.unpacked(packed, 1_000) == Body(data, codec.TEXT)
    assert codec.unpacked(Body(data, codec.TEXT), 1_000) == Body(data, codec.TEXT)
    for body in (packed, Body(data, codec.TEXT)):
        with pytest.raises(SerializationError, match=r"more than the 999"):
            codec.unpacked(body, 999)
    with pytest.raises(SerializationError, match=r"the body is not valid gzip"):
        codec.unpacked(Body(b"x", codec.TEXT, "gzip"))


def test_a_body_that_is_large_or_compressed_should_be_decoded_in_a_thread() -> None:
    assert not codec.is_large(Body(bytes(codec.LARGE), codec.BYTES))
    assert not codec.is_large(Body(b"", codec.JSON, "identity"))
    assert codec.is_large(Body(bytes(codec.LARGE + 1), codec.BYTES))
    assert codec.is_large(Body(b"", codec.JSON, "gzip"))


def test_json_text_is_decoded_without_a_body() -> None:
    assert codec.from_json(MARK + b'{"a": [1]}') == {"a": [1]}
    with pytest.raises(SerializationError, match="not valid application/json"):
        codec.from_json(b"{")


def test_an_event_loop_compresses_no_more_than_it_can_quickly() -> None:
    body = codec.encode_on_loop("a" * (codec.QUICK + 1), "text", max_size=10)
    assert (body.to_compress, body.content_encoding, len(body.data)) == (True, None, codec.QUICK + 1)
    with pytest.raises(TooLarge):
        codec.compressed(body, 10)
    assert codec.encode_on_loop("a" * codec.QUICK, "text").content_encoding == "gzip"
    huge = "a" * (codec.MAX_BODY + 1)
    assert len(codec.encode_on_loop(huge, "text").data) == len(huge)


def test_a_body_that_is_passed_on_has_the_limit_of_a_message() -> None:
    body = Body(b"abc", codec.BYTES)
    make: Any
    for make in (codec.encode, codec.encode_on_loop):
        assert make(body, max_size=3) is body
        with pytest.raises(TooLarge, match="has 3 bytes, more than the limit of a message"):
            make(body, max_size=2)
    assert codec.fitting(body, sys.maxsize) is body
