"""Compresses large bodies with gzip, and decompresses them up to a limit.

isal does it where it is installed (`pip install crew[isal]`), else zlib of Python. Both write and read the same format,
and both raise the same errors here.
"""

import zlib
from typing import Any, Final

from crew.errors import SerializationError

ABOVE: Final = 32 * 1024  # bytes; smaller bodies are not compressed
WORTH: Final = 0.7  # the sample of a body must shrink to less than this part
PLAIN: Final = (None, "", "identity")  # content encodings of a body that is not compressed
GZIP: Final = "gzip"

_WBITS: Final = 31  # for zlib: with the header and trailer of gzip
_SAMPLES: Final = 4  # pieces of a body, spread over it
_SAMPLE: Final = 4 * 1024  # bytes of each piece

try:
    from isal import isal_zlib
except ImportError:
    _zlib: Any = zlib
    _LEVEL = 1  # level 9 gains a few percent, and takes ten times as long
else:
    _zlib = isal_zlib
    _LEVEL = 2  # a third of zlib's time at level 1, for the same size; level 3 gains 2 % in three times as long


def compressed(data: bytes) -> bytes | None:
    """Return `data` in gzip, or None where it does not become smaller."""
    smaller: bytes = _zlib.compress(data, _LEVEL, wbits=_WBITS)
    return smaller if len(smaller) < len(data) else None


def is_large(data: bytes) -> bool:
    """Whether compressing `data` may be worth its time."""
    return len(data) > ABOVE


def shrinks(data: bytes) -> bool:
    """Whether a sample of the large `data` shrinks: compressing random bytes or a picture takes time in vain."""
    step = (len(data) - _SAMPLE) // (_SAMPLES - 1)
    sample = b"".join(data[at : at + _SAMPLE] for at in range(0, step * _SAMPLES, step))
    return len(_zlib.compress(sample, _LEVEL, wbits=_WBITS)) < WORTH * len(sample)


def decompressed(data: bytes, max_size: int) -> bytes:
    """Return the contents of one gzip member; raise SerializationError where it is invalid or has too many bytes."""
    decompressor = _zlib.decompressobj(wbits=_WBITS)
    try:
        plain: bytes = decompressor.decompress(data, max_size + 1)
    except _zlib.error as error:
        raise SerializationError(f"the body is not valid gzip: {error}") from None
    if len(plain) > max_size:
        raise SerializationError(f"the body decompresses to more than the {max_size} bytes accepted here")
    if not decompressor.eof:
        raise SerializationError("the body is not valid gzip: it ends too early")
    if decompressor.unused_data:
        raise SerializationError("the body is not valid gzip: there are bytes after its end")
    return plain
