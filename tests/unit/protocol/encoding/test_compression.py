"""gzip bodies: isal and Python's zlib behave the same."""

import gzip
import random
import tracemalloc
import zlib
from typing import Any

import pytest

from crew.errors import SerializationError, TooLarge
from crew.protocol.encoding import codec, compression
from crew.protocol.message import Body

MIB = 1024 * 1024
RANDOM = random.Random(15).randbytes(200_000)


@pytest.fixture(params=["zlib", "isal"], autouse=True)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = zlib if request.param == "zlib" else pytest.importorskip("isal.isal_zlib")
    monkeypatch.setattr(compression, "_zlib", found)


@pytest.mark.parametrize("data", [b"", b"a", b"text " * 100_000, RANDOM], ids=["empty", "one", "text", "random"])
def test_what_one_side_compresses_any_gzip_reads_and_the_reverse(data: bytes) -> None:
    smaller = compression.compressed(data)
    assert smaller is None or gzip.decompress(smaller) == data
    assert compression.decompressed(gzip.compress(data), len(data)) == data


def test_a_body_whose_sample_does_not_shrink_is_not_compressed() -> None:
    assert compression.shrinks(b"text " * 100_000)
    assert not compression.shrinks(RANDOM)
    assert not compression.is_large(b"text " * 100)
    assert codec.encode(RANDOM) == Body(RANDOM, codec.BYTES)


def test_a_body_of_32_kib_is_not_large() -> None:
    assert not compression.is_large(bytes(32 * 1024))
    assert compression.is_large(bytes(32 * 1024 + 1))


def test_random_bytes_have_no_smaller_form() -> None:
    assert compression.compressed(RANDOM) is None


def test_the_sample_is_four_pieces_that_are_spread_over_the_body() -> None:
    piece, body = 4 * 1024, len(RANDOM)
    sampled, others = bytearray(RANDOM), bytearray(body)
    for at in (0, (body - piece) // 3, (body - piece) // 3 * 2, (body - piece) // 3 * 3):
        sampled[at : at + piece] = bytes(piece)
        others[at : at + piece] = RANDOM[at : at + piece]
    assert compression.shrinks(bytes(sampled))
    assert not compression.shrinks(bytes(others))
    # A piece at the wrong place is seen where three others do not shrink enough alone.
    first = bytearray(RANDOM)
    first[:piece] = bytes(piece)
    assert not compression.shrinks(bytes(first))


def test_a_body_above_the_limit_of_a_message_is_compressed_in_any_case() -> None:
    for data in (RANDOM + bytes(10_000), RANDOM + bytes(100_000)):  # the first one is compressed on the loop
        assert codec.encode_for_settings(data, None, compresses=False, max_size=205_000).content_encoding == "gzip"
        body = codec.encode_on_loop(data, compresses=False, max_size=205_000)
        if body.to_compress:
            body = codec.compressed(body, 205_000)
        assert body == codec.encode(data, max_size=205_000)
        with pytest.raises(TooLarge):
            codec.encode(data, compresses=False, max_size=205_000)


def test_a_large_body_is_left_as_it_is_where_compression_is_off() -> None:
    data = b"text " * 100_000
    assert (
        codec.encode(data, compresses=False) == codec.encode_on_loop(data, compresses=False) == Body(data, codec.BYTES)
    )


def test_a_body_of_exactly_the_limit_is_not_compressed_because_of_it() -> None:
    pieces = [RANDOM[at : at + 8 * 1024] for at in range(0, 32 * 1024, 8 * 1024)]  # all that is sampled is random
    body = Body(bytes(32 * 1024).join(pieces), codec.BYTES)
    assert not compression.shrinks(body.data)
    assert codec.packed(body, len(body.data)) == body
    assert codec.packed(body, len(body.data) - 1).content_encoding == "gzip"


@pytest.mark.parametrize("compresses", [True, False])
@pytest.mark.parametrize("size", [10, 50_000, 500_000], ids=["small", "compressed quickly", "compressed later"])
def test_a_result_is_encoded_by_its_serializer_and_compressed_by_the_settings(size: int, compresses: bool) -> None:
    payload = "text " * (size // 5)
    body = codec.encode_for_settings(payload, "text", max_size=size, compresses=compresses)
    assert body == codec.encode(payload, "text", compresses=compresses)
    assert body.content_encoding == ("gzip" if compresses and size > compression.ABOVE else None)
    with pytest.raises(TooLarge):
        codec.encode_for_settings(RANDOM * (1 + size // len(RANDOM)), None, max_size=100_000, compresses=compresses)


def test_a_bomb_is_refused_before_it_fills_memory() -> None:
    bomb = gzip.compress(bytes(32 * MIB), 1)
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError, match="decompresses to more than the 1048576 bytes"):
            compression.decompressed(bomb, MIB)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "not valid gzip"),
        (gzip.compress(RANDOM)[:-9], "ends too early"),
        (gzip.compress(b"a") + b"junk", "bytes after its end"),
        (gzip.compress(b"a") + gzip.compress(b"b"), "bytes after its end"),
        (gzip.compress(b"a" * 99)[:-8] + bytes(8), "not valid gzip"),
    ],
    ids=["no gzip", "cut off", "junk", "two members", "wrong checksum"],
)
def test_invalid_gzip_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(SerializationError, match=message):
        compression.decompressed(data, MIB)
