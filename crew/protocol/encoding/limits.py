"""Limits of a decoded body: elements, depth and memory, independent of its size in bytes.

A few kilobytes can decompress to millions of empty arrays. Each of them takes 50 times its bytes in memory, and
building them blocks the interpreter. So the elements are counted before they are built.
"""

import gc
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, Protocol

import msgspec

from crew.errors import SerializationError

MAX_ELEMENTS: Final = 1_000_000
MAX_DEPTH: Final = 256  # Python's own limit is 1,000 levels, and the caller needs some of them
MAX_MEMORY: Final = 256 * 1024 * 1024  # bytes
REST_AFTER: Final = 0.001  # seconds; a sleep of 0 s takes 60 µs
FROZEN_BY_PYTHON: Final = 1_000  # objects, at most: CPython 3.12 freezes 375; an application freezes many more
FREED_AT_ONCE: Final = 1_000  # arrays and objects: less than a millisecond
_CONTAINERS: Final = frozenset({list, dict})
_ASTRAL: Final = bytes(range(0xF0, 0x100))  # the first bytes, in UTF-8, of characters beyond U+FFFF
ELEMENT: Final = 100  # bytes of memory for one element, with its share of the container; measured: 30 to 110

_are_frozen = False  # whether the application has had frozen objects: see `_has_frozen_objects`


class Limits(msgspec.Struct, frozen=True):
    """The limits of a receiver.

    Attributes:
        elements: members of all arrays and objects; a name and a value of an object count one each. An empty array or
            object counts one more.
        depth: levels of nested arrays and objects.
        memory: bytes of the decoded value, estimated from its elements and its text.
    """

    elements: int = MAX_ELEMENTS
    depth: int = MAX_DEPTH
    memory: int = MAX_MEMORY


DEFAULT: Final = Limits()


class Decoding(Protocol):
    """A body that is decoded piece by piece.

    Attributes:
        stack: the arrays and objects that are not complete yet; each has its members in `value`.
    """

    @property
    def stack(self) -> Sequence[Any]: ...
    def value(self) -> Any: ...


class Budget:
    """The rest of `limits` while one body is decoded, and the last time at which other threads could run.

    Args:
        limits: the limits of the receiver.
        clock: seconds since any time.
        sleep: lets other threads run.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self.depth = limits.depth
        self.elements = limits.elements  # the rest
        self._memory = limits.memory
        self._rested = clock()

    def take(self, elements: int, text: int = 0) -> None:
        """Count elements, and bytes of memory for text; raise SerializationError above the limit."""
        self.elements -= elements
        self._memory -= elements * ELEMENT + text
        if self.elements < 0:
            self.refuse_elements()
        if self._memory < 0:
            raise SerializationError(
                f"the body would take more than {self._limits.memory} bytes of memory once it is decoded, which is the "
                "limit here (CREW_MAX_MEMORY)"
            )

    def has(self, elements: int, text: int = 0) -> bool:
        """Whether `take` would not refuse them."""
        return elements <= self.elements and elements * ELEMENT + text <= self._memory

    def rest(self) -> None:
        """Let other threads run, if the last time was more than `REST_AFTER` ago."""
        if self._clock() - self._rested > REST_AFTER:
            self._sleep(0)
            self._rested = self._clock()

    def value_of(self, decoding: Decoding) -> Any:
        """Decode a body; free what was decoded of a body that is refused."""
        try:
            return decoding.value()
        except Exception:
            self.free(unfinished.value for unfinished in decoding.stack)
            raise

    def free(self, containers: Iterable[Any]) -> None:
        """Free the arrays and objects of a refused body bit by bit.

        Otherwise all of them are freed at once, and no other thread runs meanwhile: 0.1 s for 1,000,000.
        """
        waiting = list(containers)
        while waiting:
            batch = waiting[-FREED_AT_ONCE:]
            del waiting[-FREED_AT_ONCE:]
            maps = [one for one in batch if type(one) is dict]
            arrays = [one for one in batch if type(one) is list] if maps else batch
            members = itertools.chain(itertools.chain.from_iterable(arrays), *(one.values() for one in maps))
            waiting += [member for member in members if type(member) in _CONTAINERS]
            for one in batch:
                one.clear()
            self.rest()

    def refuse_elements(self) -> NoReturn:
        """Raise SerializationError."""
        raise SerializationError(
            f"the body has more than {self._limits.elements} elements, which is the limit here (CREW_MAX_ELEMENTS)"
        )

    def refuse_depth(self) -> NoReturn:
        """Raise ValueError."""
        raise too_deep(self._limits)


def too_deep(limits: Limits) -> ValueError:
    """Return the error for a body with too many levels."""
    return ValueError(f"it is nested more than {limits.depth} levels deep, which is the limit here (CREW_MAX_DEPTH)")


def width(data: bytes) -> int:
    """Return the bytes of memory for a character of this text after decoding: PEP 393."""
    if data.isascii():
        return 1
    return 2 if len(data.translate(None, _ASTRAL)) == len(data) else 4


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable the garbage collector while many containers are built.

    It would scan all of them again and again while nothing else runs. Afterwards they are moved to the oldest
    generation without a scan, unless the application has frozen objects itself.
    """
    if not gc.isenabled():
        yield
        return
    try:
        gc.disable()
        yield
    finally:
        if not _has_frozen_objects():
            gc.freeze()
            gc.unfreeze()
        gc.enable()  # last: with the next allocation CPython 3.12 would scan all of them


def _has_frozen_objects() -> bool:
    """Whether the application has ever had frozen objects here: each worker process has them.

    Python counts all of them one by one, which takes milliseconds in a worker. So the count stops with the first one
    that is large.
    """
    global _are_frozen  # of the process, as the objects are
    _are_frozen = _are_frozen or gc.get_freeze_count() >= FROZEN_BY_PYTHON
    return _are_frozen
