"""Bodies of responses: decompressing, limits, text or base64."""

import base64
import gzip
import itertools
import time
import timeit
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.worker.url_jobs.body import Body, BodyError, as_json, charset_of
from tests.support.http_site import bomb


def collected(pieces: Iterable[bytes], encoding: str = "", limit: int = 1000) -> bytes:
    """The body collected from `pieces`."""
    body = Body(encoding, limit=limit)
    for piece in pieces:
        body.add(piece)
    return body.end()


def raw_deflated(data: bytes) -> bytes:
    """Compress without the zlib header, as some servers do."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    " Deflate": raw_deflated,
    "": bytes,
    "br": bytes,
    "gzip, br": bytes,
    "identity": bytes,
}


@given(st.binary(max_size=200), st.integers(1, 20), st.sampled_from(list(PACKED)))
@settings(deadline=None, max_examples=200)
def test_a_body_is_the_same_however_it_was_compressed_and_split(data: bytes, size: int, encoding: str) -> None:
    packed = PACKED[encoding](data)
    assert collected((packed[i : i + size] for i in range(0, len(packed), size)), encoding) == data


def test_several_gzip_members_are_one_body() -> None:
    assert collected([gzip.compress(b"a") + gzip.compress(b"b")], "gzip") == b"ab"


def test_a_body_of_empty_gzip_members_that_keeps_a_worker_busy_is_refused() -> None:
    """Such a body never reaches the limit of bytes: it has none."""
    endless = itertools.repeat(gzip.compress(b"") * 4_000)
    began = time.monotonic()
    with pytest.raises(BodyError, match="is compressed in more than 1000 parts"):
        collected(itertools.takewhile(lambda _: time.monotonic() - began < 5, endless), "gzip")


def test_bytes_after_a_deflated_body_are_ignored() -> None:
    assert collected([zlib.compress(b"a") + b"trailing", b"more"], "deflate") == b"a"


def test_an_empty_body_needs_no_compression() -> None:
    assert collected([], "gzip") == b""


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert len(collected([bytes(1000)])) == 1000
    assert len(collected([gzip.compress(bytes(1000))], "gzip")) == 1000
    with pytest.raises(BodyError, match="has more than 1000 bytes"):
        collected([bytes(500), bytes(501)])
    with pytest.raises(BodyError, match="has more than 1000 bytes"):
        collected([gzip.compress(bytes(1001))], "gzip")


def test_a_decompression_bomb_is_not_decompressed_beyond_the_limit() -> None:
    body = Body("gzip", limit=1000)
    with pytest.raises(BodyError, match="has more than 1000 bytes"):
        body.add(bomb())
    assert len(body._data) == 1001


def test_many_small_bombs_count_together() -> None:
    with pytest.raises(BodyError, match="has more than 1000 bytes"):
        collected([gzip.compress(bytes(100)) * 11], "gzip")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_does_not_match_its_encoding_is_an_error(encoding: str) -> None:
    with pytest.raises(BodyError, match="cannot be decompressed"):
        collected([b"plain text"], encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_incomplete_compressed_body_is_an_error(encoding: str) -> None:
    with pytest.raises(BodyError, match="is incomplete"):
        collected([PACKED[encoding](b"x" * 100)[:-6]], encoding)


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"", None, ""),
        ("grün".encode(), None, "grün"),
        ("grün".encode("latin-1"), "ISO-8859-1", "grün"),
        ("grün".encode("utf-16"), "utf-16", "grün"),
        ("日本".encode("shift-jis"), "Shift_JIS", "日本"),
    ],
)
def test_a_text_body_is_text(data: bytes, charset: str | None, text: str) -> None:
    assert as_json(data, charset) == {"body": text, "encoding": "text"}


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        (b"\xff\xfe", None),
        (b"a\0b", None),  # PostgreSQL stores no text with NUL
        (b"text", "nonsense"),
        (b"text", "\0"),
        (b"74657874", "hex"),
        (b"text", "rot13"),
        (b"\\ud800", "unicode-escape"),
        (b"text-", "punycode"),  # decoding would take minutes
        (b"text", "idna"),
        (b"\xd8\x00", "utf-16-be"),
    ],
)
def test_any_other_body_is_base64(data: bytes, charset: str | None) -> None:
    assert as_json(data, charset) == {"body": base64.b64encode(data).decode(), "encoding": "base64"}


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("text/html; charset=utf-8", "utf-8"),
        ('text/html;a=b; Charset="ISO-8859-1" ;c=d', "ISO-8859-1"),
        ("text/html ; charset = 'cp1252'", "cp1252"),
        ("text/html;charset=", None),
        ('text/html; charset=""', None),
        ("text/charset=utf-8", None),
        ("text/html; x-charset=utf-8", None),
        ("", None),
    ],
)
def test_the_charset_of_a_content_type_is_found(content_type: str, charset: str | None) -> None:
    assert charset_of(content_type) == charset


@pytest.mark.parametrize("piece", [";", "; ", '"', "a;", ";charset", ';charset="', "; charset ="])
def test_a_hostile_content_type_does_not_keep_a_worker_busy(piece: str) -> None:
    """A header may have 8 KiB. Twice as much text must take twice as long, not four times."""
    short, long = (_seconds(piece * (size // len(piece))) for size in (50_000, 400_000))
    assert long < max(0.1, 24 * short)


def _seconds(content_type: str) -> float:
    """CPU time, not wall time: on a busy machine wall time includes other processes."""
    return timeit.timeit(lambda: charset_of(content_type), timer=time.thread_time, number=1)
