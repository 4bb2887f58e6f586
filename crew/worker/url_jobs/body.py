"""Reads the body of a response up to a limit, decompresses it, and encodes it as text or base64 for JSON."""

import asyncio
import base64
import codecs
import re
import zlib
from typing import Final

from aiohttp import ClientResponse

MAX_BODY: Final = 10 * 1024 * 1024  # bytes, decompressed; as base64 it still fits into a message of 16 MiB
MAX_CHUNKS: Final = 250_000  # of the transfer: 10 MiB in lines of 42 bytes
CHUNKS_AT_A_TIME: Final = 500  # then other tasks of the loop run: reading buffered chunks never waits
ENCODINGS: Final = "gzip, deflate"  # those that are requested, and decompressed
MAX_MEMBERS: Final = (
    1_000  # of gzip: empty members add no bytes to the limit, and each costs as much as thousands of bytes
)
_CHARSET: Final = re.compile(r""";\s*charset\s*=\s*["']?([^\s;"']+)""", re.IGNORECASE)
_GZIP: Final = 16 + zlib.MAX_WBITS
_TEXTS: Final = (  # how names of text codecs begin; some of the other codecs take minutes for 10 MiB
    *("ascii", "utf-8", "utf-16", "utf-32", "iso8859", "latin", "cp", "koi8", "mac", "shift", "euc", "gb", "big5"),
    *("hz", "iso2022", "johab", "tis", "kz1048", "ptcp"),
)


class BodyError(Exception):
    """A body that crew does not accept; its message continues "the body of the response ..."."""


class Body:
    """Collects and decompresses the body of one response.

    Args:
        encoding: value of the Content-Encoding header; any other than gzip and deflate is not decompressed.
        limit: bytes, decompressed.
    """

    def __init__(self, encoding: str, *, limit: int = MAX_BODY) -> None:
        self._is_compressed = encoding.strip().lower() in ("gzip", "x-gzip", "deflate")
        self._is_gzip = self._is_compressed and "gzip" in encoding.lower()
        self._limit = limit
        self._decompressor: zlib._Decompress | None = None
        self._members = 0
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Add the next bytes of the response.

        Raises:
            BodyError: the body is too large now, or cannot be decompressed.
        """
        if self._is_compressed:
            self._decompress(chunk)
        else:
            self._data += chunk
        if len(self._data) > self._limit:
            raise BodyError(f"has more than {self._limit} bytes")

    def end(self) -> bytes:
        """Return the whole body.

        Raises:
            BodyError: the compressed data has no end.
        """
        if self._decompressor is not None and not self._decompressor.eof:
            raise BodyError("is incomplete: the end of the compressed data is missing")
        return bytes(self._data)

    def _begin(self, chunk: bytes) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise BodyError(f"is compressed in more than {MAX_MEMBERS} parts")
        self._decompressor = zlib.decompressobj(_GZIP if self._is_gzip else _window(chunk))

    def _decompress(self, chunk: bytes) -> None:
        """Decompress at most one byte beyond the limit: a compressed megabyte may be a gigabyte."""
        while chunk and len(self._data) <= self._limit:
            # A gzip body may have several members.
            if self._decompressor is None or (self._is_gzip and self._decompressor.eof):
                self._begin(chunk)
            assert self._decompressor is not None
            if self._decompressor.eof:
                return  # bytes after the end are ignored
            try:
                self._data += self._decompressor.decompress(chunk, self._limit + 1 - len(self._data))
            except zlib.error:
                raise BodyError("cannot be decompressed as its Content-Encoding says") from None
            chunk = self._decompressor.unused_data or self._decompressor.unconsumed_tail


async def read_body(response: ClientResponse) -> bytes:
    """Read and return the whole body of `response`, decompressed.

    Raises:
        BodyError: it has more than `MAX_BODY` bytes or `MAX_CHUNKS` chunks, or cannot be decompressed.
        aiohttp.ClientError: it is incomplete.
    """
    body, content, chunks = Body(response.headers.get("Content-Encoding", "")), response.content, 0
    while True:
        piece, is_end_of_chunk = await content.readchunk()
        if not piece and content.at_eof():
            return body.end()
        body.add(piece)
        chunks += is_end_of_chunk
        if chunks > MAX_CHUNKS:
            raise BodyError(f"has more than {MAX_CHUNKS} chunks")
        if is_end_of_chunk and chunks % CHUNKS_AT_A_TIME == 0:
            await asyncio.sleep(0)


def charset_of(content_type: str) -> str | None:
    """The charset in a Content-Type; None without one. Python's own parser takes a second for 8 KiB of ";"."""
    found = _CHARSET.search(content_type)
    return None if found is None else found[1]


def as_json(data: bytes, charset: str | None) -> dict[str, str]:
    """Members `body` and `encoding`: "text" if `data` is text that JSON and the job store can hold, else "base64"."""
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
        text.encode()  # JSON cannot hold half a character of UTF-16
    except (LookupError, ValueError):
        return None
    return None if "\0" in text else text  # PostgreSQL stores no text with NUL


def _window(chunk: bytes) -> int:
    """Window size for "deflate": some servers send it without the zlib header (RFC 9110, section 8.4.1.2)."""
    has_header = chunk[0] & 0x0F == zlib.DEFLATED and (len(chunk) < 2 or (chunk[0] << 8 | chunk[1]) % 31 == 0)
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
