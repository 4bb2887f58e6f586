"""Decodes MessagePack: counts the elements first, and decodes a large body in pieces.

The first byte of each element encodes its length or the number of its members: https://github.com/msgpack/msgpack/blob/master/spec.md
So the elements are counted without building any value. msgspec decodes runs of complete members with at most `PIECE`
bytes; other threads run between two runs.

An attacker can choose numbers as keys of a map that all collide in Python's dict, so that each takes as long as all
before it. Strings have random hashes. So runs of other keys are short, and a map whose keys take far longer than usual
is refused.
"""

import codecs
import time
from typing import Any, Final

import msgspec

from crew.protocol.encoding.limits import Budget, width

PIECE: Final = 32 * 1024  # bytes; in the worst case msgspec takes 10 ms for them
PIECE_OF_NUMBERS: Final = 4 * 1024  # bytes of a map with other keys than strings
CHUNK: Final = 256 * 1024  # bytes of one string that are decoded at a time
_SLOW: Final = 0.05  # seconds of CPU time to build a map, and additional seconds for each of its keys:
_SLOW_KEY: Final = 2e-6  # a usual key takes 0.1 µs

_FIXED, _SIZED, _ARRAY, _MAP, _NONE = range(5)


def _table() -> list[tuple[int, int]]:
    """Return for each first byte the kind of its element and its length, or the size of its length field."""
    table = [(_FIXED, 1)] * 256
    for first in range(0x80, 0x90):
        table[first] = (_MAP, 0)
    for first in range(0x90, 0xA0):
        table[first] = (_ARRAY, 0)
    for first in range(0xA0, 0xC0):
        table[first] = (_FIXED, 1 + (first & 0x1F))
    table[0xC1] = (_NONE, 0)
    for first, length in ((0xCA, 5), (0xCB, 9), *zip(range(0xCC, 0xD4), (2, 3, 5, 9) * 2, strict=True)):
        table[first] = (_FIXED, length)
    for first, length in zip(range(0xD4, 0xD9), (3, 4, 6, 10, 18), strict=True):  # extensions of a fixed size
        table[first] = (_FIXED, length)
    for begin in (0xC4, 0xD9):  # bytes; strings
        for power in range(3):
            table[begin + power] = (_SIZED, 1 << power)
    for power in range(3):  # extensions, with a byte for their type
        table[0xC7 + power] = (_SIZED, 1 << power)
    table[0xDC], table[0xDD] = (_ARRAY, 2), (_ARRAY, 4)
    table[0xDE], table[0xDF] = (_MAP, 2), (_MAP, 4)
    return table


_TABLE: Final = _table()
_STEPS: Final = tuple(length if kind == _FIXED else 0 for kind, length in _TABLE)  # 0: decode its head
_EXTENSIONS: Final = frozenset((0xC7, 0xC8, 0xC9))
_CONTAINERS: Final = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_TEXT: Final = frozenset((0xD9, 0xDA, 0xDB))
_STRINGS: Final = _TEXT | set(range(0xA0, 0xC0))
_BYTES: Final = frozenset((0xC4, 0xC5, 0xC6))
_TOO_EARLY: Final = "it ends too early"


def _refuse_extension(code: int, data: memoryview) -> None:
    raise ValueError(f"it contains an extension of type {code}, which is not accepted here")


decode_small: Final = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode


class _Frame:
    """An array or map that is not complete yet."""

    __slots__ = ("is_map", "key", "keys", "left", "seconds", "value")

    def __init__(self, is_map: bool, members: int) -> None:
        self.is_map = is_map
        self.left = members
        self.value: Any = {} if is_map else []
        self.seconds = 0.0  # CPU time to build it
        self.keys = 0
        self.key: Any = None  # of the member whose value comes next


def decode(data: bytes, budget: Budget, *, keeps: bool = True) -> Any:
    """Decode `data`.

    Args:
        keeps: False: the data is only checked, piece by piece, and no value is kept.

    Raises:
        ValueError, msgspec.MsgspecError, TypeError: it is not MessagePack, or nested too deeply.
        SerializationError: it exceeds `budget`.
    """
    return budget.value_of(_Body(data, budget, keeps))


def is_too_deep(data: bytes, depth: int) -> bool:
    """Whether `data` has more levels than `depth`; False where it is not MessagePack."""
    if len(data) <= depth or len(data) - len(data.translate(None, _CONTAINERS)) <= depth:
        return False
    at, left = 0, [1]
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        left[-1] -= 1
        try:
            _, at, members, is_map = _head(data, at)
        except ValueError:
            return False
        if members is not None:
            left.append(members * 2 if is_map else members)
            if len(left) > depth + 1:
                return True
    return False


def _head(data: bytes, at: int) -> tuple[int, int, int | None, bool]:
    """Return the element at `at`: first byte, end (of a container: of its head), members, whether it is a map."""
    if at >= len(data):
        raise ValueError(_TOO_EARLY)
    first = data[at]
    kind, length = _TABLE[first]
    if kind == _FIXED:
        return first, at + length, None, False
    if kind == _NONE:
        raise ValueError(f"byte {at} is not a valid first byte")
    after = at + 1 + length
    if kind == _SIZED:
        end = after + int.from_bytes(data[at + 1 : after], "big") + (first in _EXTENSIONS)
        return first, end, None, False
    if length == 0:
        return first, after, first & 0x0F, kind == _MAP
    if after > len(data):
        raise ValueError(_TOO_EARLY)
    return first, after, int.from_bytes(data[at + 1 : after], "big"), kind == _MAP


class _Body:
    def __init__(self, data: bytes, budget: Budget, keeps: bool) -> None:
        self._data = data
        self._budget = budget
        self._keeps = keeps
        self._at = 0
        self._inner = 0  # elements below the members of a run
        self._open: list[int] = []  # starts of the containers around the last element that was too long
        self._too_long: set[int] = set()  # starts of the containers that are known to be longer than a piece
        self.stack: list[_Frame] = []

    def value(self) -> Any:
        found, is_complete = self._begin_value()
        while not is_complete:
            found, is_complete = self._step()
            self._budget.rest()
        if self._at < len(self._data):
            raise ValueError("there are more bytes after the value")
        return found

    def _step(self) -> tuple[Any, bool]:
        """Decode a run of members, or begin one member, or end the innermost container."""
        frame = self.stack[-1]
        while not frame.left:
            self.stack.pop()
            if not self.stack:
                return frame.value, True
            above = self.stack[-1]
            self._put(above, frame.value)
            frame = above
        if not self._take_run(frame):
            self._take_one(frame)
        return None, False

    def _take_run(self, frame: _Frame) -> bool:
        """Decode the complete members within the next bytes; return False where the first one is not complete."""
        begin = end = self._at
        count, most, until = 0, frame.left, begin + PIECE
        self._inner = 0
        while count < most:
            if frame.is_map:
                after = self._skip(end, until)
                if after and self._data[end] not in _STRINGS:
                    until = begin + PIECE_OF_NUMBERS
                after = after and self._skip(after, until)
            else:
                end, passed = self._pass_scalars(end, most - count, until)
                count += passed
                after = 0 if count == most else self._skip(end, until)
            if not after:
                break
            end = after
            count += 1
        if not count:
            self._too_long.update(self._open)
            return False
        piece = self._data[begin:end]
        self._budget.take(self._inner, len(piece) * width(piece))
        self._decode_run(frame, piece, count)
        frame.left -= count
        self._at = end
        return True

    def _pass_scalars(self, at: int, most: int, until: int) -> tuple[int, int]:
        """Skip scalars of a fixed length that begin at `at`; return their end and number. Large arrays have many."""
        data, steps, passed = self._data, _STEPS, 0
        until = min(until, len(data))
        while passed < most and at < until and (step := steps[data[at]]) and at + step <= until:
            at += step
            passed += 1
        return at, passed

    def _skip(self, at: int, until: int) -> int:
        """Return the end of the element at `at`, or 0 where that is after `until`. Count the elements in it.

        Containers that are too long are remembered, so that they are not searched again.
        """
        data, steps = self._data, _STEPS
        above: list[int] = []  # how many members are left in each container above
        opened: list[int] = []  # where these containers begin
        self._open = opened
        size, left, inner = len(data), 1, 0
        deepest = self._budget.depth - len(self.stack)
        while True:
            while left:
                left -= 1
                if at >= size:
                    raise ValueError(_TOO_EARLY)
                step = steps[data[at]]
                if step:
                    at += step
                    continue
                begin = at
                _, at, members, is_map = _head(data, at)
                if members is not None:
                    if begin in self._too_long:
                        return 0
                    if len(above) >= deepest:
                        self._budget.refuse_depth()
                    members = members * 2 if is_map else members
                    inner += members or 1
                    if members > size - at:
                        raise ValueError(_TOO_EARLY)
                    above.append(left)
                    opened.append(begin)
                    left = members
                if at > until:
                    return 0
            if at > until:
                return 0
            if not above:
                self._inner += inner
                return at
            left = above.pop()
            opened.pop()

    def _decode_run(self, frame: _Frame, piece: bytes, count: int) -> None:
        """Let msgspec decode the `count` members in `piece`."""
        head = (b"\xdf" if frame.is_map else b"\xdd") + count.to_bytes(4, "big")
        found = decode_small(head + piece)
        if not self._keeps:
            return
        if not frame.is_map:
            frame.value.extend(found)
            return
        began = time.thread_time()
        frame.value.update(found)
        frame.seconds += time.thread_time() - began
        frame.keys += count
        if frame.seconds > _SLOW + frame.keys * _SLOW_KEY:
            raise ValueError("the keys of a map in it collide: they may be an attack on this process")

    def _take_one(self, frame: _Frame) -> None:
        """Begin one member that is too long for a run: its contents are decoded piece by piece."""
        frame.left -= 1
        if frame.is_map:
            frame.key = self._key()
            frame.keys += 1
        value, is_complete = self._begin_value()
        if is_complete:
            self._put(frame, value)

    def _key(self) -> Any:
        at = self._at
        self._inner = 0
        after = self._skip(at, at + PIECE)
        if not after:
            raise ValueError(f"a key of a map in it has more than {PIECE} bytes")
        self._budget.take(self._inner, after - at)
        self._at = after
        return next(iter(decode_small(b"\x81" + self._data[at:after] + b"\xc0")))

    def _put(self, frame: _Frame, value: Any) -> None:
        """Add the complete `value` to `frame`."""
        if not self._keeps:
            return
        if frame.is_map:
            frame.value[frame.key] = value
        else:
            frame.value.append(value)

    def _begin_value(self) -> tuple[Any, bool]:
        """Decode the value that begins here; enter a container and return False."""
        at = self._at
        first, end, members, is_map = _head(self._data, at)
        if members is None:
            if end > len(self._data):
                raise ValueError(_TOO_EARLY)
            self._at = end
            return self._scalar(first, at, end), True
        members_in_all = members * 2 if is_map else members
        if members_in_all > len(self._data) - end:
            raise ValueError(_TOO_EARLY)
        if len(self.stack) >= self._budget.depth:
            self._budget.refuse_depth()
        self._budget.take(max(members_in_all, 1))
        self.stack.append(_Frame(is_map, members))
        self._at = end
        return None, False

    def _scalar(self, first: int, at: int, end: int) -> Any:
        if first in _TEXT and end - at > CHUNK:
            return text(self._data[at + 1 + _TABLE[first][1] : end], self._budget, keeps=self._keeps)
        piece = self._data[at:end]
        self._budget.take(0, len(piece) if first in _BYTES else len(piece) * width(piece))
        return decode_small(piece)


def text(data: bytes, budget: Budget, *, keeps: bool = True) -> str:
    """Decode UTF-8 text in chunks; raise UnicodeDecodeError or SerializationError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts: list[str] = []
    for begin in range(0, len(data), CHUNK):
        chunk = data[begin : begin + CHUNK]
        budget.take(0, len(chunk) * width(chunk))
        part = decoder.decode(chunk, begin + CHUNK >= len(data))
        if keeps:
            parts.append(part)
        budget.rest()
    return "".join(parts)
