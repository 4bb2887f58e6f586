"""How much a decoded body may be: elements, depth and memory, whatever its size in bytes says.

A few kilobytes can unpack to millions of empty arrays, each of which takes 50 times its bytes in memory and holds the
interpreter for a while. So what is decoded is counted before it is built.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import msgspec

from crew.errors import SerializationError

MAX_ELEMENTS: Final = 1_000_000
MAX_DEPTH: Final = 256  # Python itself gives up at 1,000 levels, some of which its caller needs
MAX_MEMORY: Final = 256 * 1024 * 1024  # bytes
REST_AFTER: Final = 0.001  # seconds; a sleep of none takes 60 µs
_ASTRAL: Final = bytes(range(0xF0, 0x100))  # the first bytes, in UTF-8, of characters beyond U+FFFF
ELEMENT: Final = 100  # bytes of memory that one takes, with its share of the container; measured: 30 to 110


class Limits(msgspec.Struct, frozen=True):
    """What a receiver decodes at most.

    Attributes:
        elements: members of arrays and objects in all; of an object, its name and its value count one each. An empty
            array or object counts one more.
        depth: arrays and objects inside of each other.
        memory: bytes that the decoded value takes, as estimated from its elements and its text.
    """

    elements: int = MAX_ELEMENTS
    depth: int = MAX_DEPTH
    memory: int = MAX_MEMORY


DEFAULT: Final = Limits()


class Budget:
    """What is left of `limits` while one body is decoded; and when its thread has last let others run."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.depth = limits.depth
        self.elements = limits.elements  # left
        self._memory = limits.memory
        self._rested = time.perf_counter()

    def take(self, elements: int, text: int = 0) -> None:
        """Count elements, and bytes of memory for text; raises SerializationError where that is too much."""
        self.elements -= elements
        self._memory -= elements * ELEMENT + text
        if self.elements < 0:
            self.refuse_elements()
        if self._memory < 0:
            raise SerializationError(
                f"the body would take more than {self._limits.memory} bytes of memory once it is decoded, which is the "
                "limit here (CREW_MAX_MEMORY)"
            )

    def rest(self) -> None:
        """Let threads run that wait for the interpreter, where they have waited for a moment."""
        if time.perf_counter() - self._rested > REST_AFTER:
            time.sleep(0)
            self._rested = time.perf_counter()

    def refuse_elements(self) -> NoReturn:
        """Raise SerializationError."""
        raise SerializationError(
            f"the body has more than {self._limits.elements} elements, which is the limit here (CREW_MAX_ELEMENTS)"
        )

    def refuse_depth(self) -> NoReturn:
        """Raise ValueError."""
        raise too_deep(self._limits)


def too_deep(limits: Limits) -> ValueError:
    """Why a body with too many levels is not valid."""
    return ValueError(f"it is nested more than {limits.depth} levels deep, which is the limit here (CREW_MAX_DEPTH)")


def width(data: bytes) -> int:
    """Bytes of memory that a character of this text may take once it is decoded: PEP 393."""
    if data.isascii():
        return 1
    return 2 if len(data.translate(None, _ASTRAL)) == len(data) else 4


@contextmanager
def without_collection() -> Iterator[None]:
    """Build many containers without the garbage collector.

    It would walk over all of them, again and again, while nothing else runs. They join the oldest generation unseen
    instead, unless the application has frozen objects there itself.
    """
    if not gc.isenabled():
        yield
        return
    try:
        gc.disable()
        yield
    finally:
        gc.enable()
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
