"""The body of a response: read as far as it may be, unpacked, and made into what JSON can carry."""

import asyncio
import base64
import codecs
import re
import zlib
from typing import Final

from aiohttp import ClientResponse

MAX_BODY: Final = 10 * 1024 * 1024  # bytes, unpacked; as base64 it still fits into a message of 16 MiB
MAX_CHUNKS: Final = 250_000  # of the transfer: 10 MiB in lines of 42 bytes
CHUNKS_AT_A_TIME: Final = 500  # before others have a turn of the loop: what is buffered comes without a wait
ENCODINGS: Final = "gzip, deflate"  # those that are asked for, and unpacked
MAX_MEMBERS: Final = 1_000  # of gzip: of empty ones there is no end, each costs as much as thousands of bytes
_CHARSET: Final = re.compile(r""";\s*charset\s*=\s*["']?([^\s;"']+)""", re.IGNORECASE)
_GZIP: Final = 16 + zlib.MAX_WBITS
_TEXTS: Final = (  # names of codecs for text; there are others, and some of them take minutes for 10 MiB
    *("ascii", "utf-8", "utf-16", "utf-32", "iso8859", "latin", "cp", "koi8", "mac", "shift", "euc", "gb", "big5"),
    *("hz", "iso2022", "johab", "tis", "kz1048", "ptcp"),
)


class BadBody(Exception):
    """A body that cannot be kept; its message goes on "the body of the response ..."."""


class Body:
    """Collects the body of one response.

    Args:
        encoding: as the Content-Encoding header says; what is neither gzip nor deflate is kept as it came.
    """

    def __init__(self, encoding: str, *, limit: int = MAX_BODY) -> None:
        self._is_packed = encoding.strip().lower() in ("gzip", "x-gzip", "deflate")
        self._is_gzip = self._is_packed and "gzip" in encoding.lower()
        self._limit = limit
        self._unpacking: zlib._Decompress | None = None
        self._members = 0
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """The next bytes, as they came.

        Raises:
            BadBody: there are too many now, or they cannot be unpacked.
        """
        if self._is_packed:
            self._unpack(chunk)
        else:
            self._data += chunk
        if len(self._data) > self._limit:
            raise BadBody(f"has more than {self._limit} bytes")

    def end(self) -> bytes:
        """All of it.

        Raises:
            BadBody: an end is missing.
        """
        if self._unpacking is not None and not self._unpacking.eof:
            raise BadBody("is broken off: the end of what was packed is missing")
        return bytes(self._data)

    def _begin(self, chunk: bytes) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise BadBody(f"is packed in more than {MAX_MEMBERS} pieces")
        self._unpacking = zlib.decompressobj(_GZIP if self._is_gzip else _window(chunk))

    def _unpack(self, chunk: bytes) -> None:
        """Never more than a byte beyond the limit: a packed megabyte may be a gigabyte."""
        while chunk and len(self._data) <= self._limit:
            if self._unpacking is None or (self._is_gzip and self._unpacking.eof):  # gzip may have several members
                self._begin(chunk)
            assert self._unpacking is not None
            if self._unpacking.eof:
                return  # what follows is nobody's
            try:
                self._data += self._unpacking.decompress(chunk, self._limit + 1 - len(self._data))
            except zlib.error:
                raise BadBody("cannot be unpacked, though its Content-Encoding says so") from None
            chunk = self._unpacking.unused_data or self._unpacking.unconsumed_tail


async def read_body(response: ClientResponse) -> bytes:
    """The whole body of `response`, unpacked.

    Raises:
        BadBody: it has more than `MAX_BODY` bytes or `MAX_CHUNKS` chunks, or cannot be unpacked.
        aiohttp.ClientError: it is broken off.
    """
    body, content, chunks = Body(response.headers.get("Content-Encoding", "")), response.content, 0
    while True:
        piece, is_end_of_chunk = await content.readchunk()
        if not piece and content.at_eof():
            return body.end()
        body.add(piece)
        chunks += is_end_of_chunk
        if chunks > MAX_CHUNKS:
            raise BadBody(f"has more than {MAX_CHUNKS} chunks")
        if is_end_of_chunk and chunks % CHUNKS_AT_A_TIME == 0:
            await asyncio.sleep(0)


def charset_of(content_type: str) -> str | None:
    """What a Content-Type says of it. For 8 KiB of ";" Python's own parser takes a second, in which nothing runs."""
    found = _CHARSET.search(content_type)
    return None if found is None else found[1]


def as_json(data: bytes, charset: str | None) -> dict[str, str]:
    """`body` and `encoding`: "text" where `data` is text that can be stored as such, else "base64"."""
    text = _decoded(data, charset or "utf-8")
    if text is None:
        return {"body": base64.b64encode(data).decode(), "encoding": "base64"}
    return {"body": text, "encoding": "text"}


def _decoded(data: bytes, charset: str) -> str | None:
    try:
        codec = codecs.lookup(charset)
        if not codec.name.startswith(_TEXTS):
            return None
        text = data.decode(codec.name)
        text.encode()  # half a character of UTF-16 is none in JSON
    except (LookupError, ValueError):
        return None
    return None if "\0" in text else text  # PostgreSQL stores no text with it


def _window(chunk: bytes) -> int:
    """Some send "deflate" without the header of zlib: RFC 9110, 8.4.1.2, notes it."""
    has_header = chunk[0] & 0x0F == zlib.DEFLATED and (len(chunk) < 2 or (chunk[0] << 8 | chunk[1]) % 31 == 0)
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
