"""Decodes large JSON in pieces, so that other threads run in between.

msgspec decodes at least 100 MB of JSON a second, and no other thread runs meanwhile. For a few kilobytes that does not
matter. A text of megabytes is cut into runs of complete members with at most `PIECE` bytes. msgspec decodes and checks
each run. This module builds the arrays and objects around the runs. Elements, depth and memory are counted before a run
is decoded.

`json_cut.py` guesses where a run ends, and msgspec's result shows whether that was right. After `WRONG_GUESSES` of them
a regular expression finds the runs, at a tenth of the speed: members with containers of up to six levels, each of which
ends with its comma within `PIECE` bytes. Otherwise the next member is a container, which is entered, or a long string,
which is decoded in chunks. Every quantifier is possessive. So there is no backtracking, and the time grows only with
the length.

msgspec takes 12 µs for a number like 1e308. After the first run with many of them Python converts the numbers: see
`_finite`.
"""

import math
import re
import time
from typing import Any, Final, NoReturn

import msgspec

from crew.protocol.encoding import json_cut
from crew.protocol.encoding.limits import Budget, width

PIECE: Final = 32 * 1024  # bytes; msgspec takes up to 10 ms for them; 70 ms for numbers like 1e308, once in a text
CHUNK: Final = 256 * 1024  # bytes of one string that are decoded at a time
WRONG_GUESSES: Final = 8  # in one text: each costs as much as its piece

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_LEVELS: Final = 6  # of containers in a run


def _run(levels: int) -> "re.Pattern[bytes]":
    group = rb"(?!)"
    for _ in range(levels):
        group = rb'[\[{](?:[^\[\]{}"]++|' + _STRING + rb"|" + group + rb")*+[\]}]"
    return re.compile(rb'(?:(?:[^\[\]{}",]++|' + _STRING + rb"|" + group + rb")*+,)*+", re.DOTALL)


_RUN: Final = _run(_LEVELS)
_FLAT_RUN: Final = _run(0)
_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_NAME: Final = re.compile(rb"(" + _STRING + rb")[ \t\n\r]*+:", re.DOTALL)
_ATOM: Final = re.compile(rb'[^\[\]{}",: \t\n\r]++')
_WHOLE_STRING: Final = re.compile(_STRING, re.DOTALL)
# A string may be cut after this: a surrogate pair is one character and must stay together.
_STRING_CHUNK: Final = re.compile(
    rb'(?:[^"\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u])*+',
    re.DOTALL,
)
_STRINGS: Final = re.compile(_STRING, re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_SLOW: Final = 200e-9  # seconds of CPU time a byte; a run without numbers like 1e308 takes at most 30e-9
_decode: Final = msgspec.json.Decoder().decode


def _finite(number: str) -> float:
    """Convert a number as msgspec does, in 0.2 to 0.6 µs; msgspec takes 0.04 µs for most, but 12 µs for 1e308."""
    value = float(number)
    if math.isinf(value):
        raise ValueError("Number out of range")
    return value


_decode_large_numbers: Final = msgspec.json.Decoder(float_hook=_finite).decode


class _Frame:
    """An array or object that is not complete yet."""

    __slots__ = ("is_empty", "is_object", "name", "value")

    def __init__(self, is_object: bool) -> None:
        self.is_object = is_object
        self.is_empty = True
        self.name: Any = None  # of the member whose value comes next
        self.value: Any = {} if is_object else []


def decode(data: bytes, budget: Budget, *, keeps: bool = True) -> Any:
    """Decode the JSON text `data`.

    Args:
        keeps: False: the text is only checked, piece by piece, and no value is kept.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
        SerializationError: it exceeds `budget`.
    """
    return budget.value_of(_Text(data, budget, keeps))


def is_too_deep(data: bytes, depth: int) -> bool:
    """Whether the JSON text `data` has more levels than `depth`; fast where it has few brackets."""
    if len(data) <= 2 * depth:
        return False
    brackets = data.translate(None, _NOT_BRACKETS)  # one pass: counting two kinds of brackets takes two
    if len(brackets) <= depth or len(_collapsed(brackets)) <= depth - 8:
        return False
    level = 0
    for bracket in _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS):  # without brackets in strings
        level += 1 if bracket in b"[{" else -1
        if level > depth:
            return True
    return False


def _collapsed(brackets: bytes) -> bytes:
    """Remove the innermost eight levels."""
    for _ in range(8):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return brackets


class _Text:
    def __init__(self, data: bytes, budget: Budget, keeps: bool) -> None:
        self._data = data
        self._budget = budget
        self._keeps = keeps
        self._at = 0
        self._wrong_guesses = 0
        self._decode_run = _decode
        self.stack: list[_Frame] = []

    def value(self) -> Any:
        self._skip_space()
        found, is_complete = self._begin_value()
        while not is_complete:
            found, is_complete = self._step()
            self._budget.rest()
        self._skip_space()
        if self._at < len(self._data):
            self._fail("there is more text after the value")
        return found

    def _step(self) -> tuple[Any, bool]:
        """Decode a run of members, or one member, or the end of the innermost container."""
        frame = self.stack[-1]
        if self._take_guessed_run(frame) or self._take_run(frame):
            return None, False
        self._skip_space()
        if self._peek() in b"]}":
            if not frame.is_empty:  # a value without a comma after it would have ended it
                self._fail("there is a comma without a value after it")
            return self._end(frame)
        if frame.is_object:
            frame.name = self._name()
            self._skip_space()
        value, is_complete = self._begin_value()
        return self._put(value) if is_complete else (None, False)

    def _take_guessed_run(self, frame: _Frame) -> bool:
        """As `_take_run`, up to a guessed comma; return False also where the guess is wrong or near a limit."""
        budget, members = self._budget, self._data[self._at : self._at + PIECE]
        end = self._may_guess() and json_cut.members_end(members)
        if not end:
            return False
        members = members[:end]
        elements, memory = 1 + _separators(members), len(members) * width(members)
        if not budget.has(elements, memory) or is_too_deep(members, budget.depth - len(self.stack)):
            return False
        try:
            found = self._run_of(members, frame)
        except (msgspec.MsgspecError, RecursionError):
            self._wrong_guesses += 1
            return False
        if not found:  # spaces
            return False
        budget.take(elements, memory)
        self._put_all(frame, found, self._at + end)
        return True

    def _may_guess(self) -> bool:
        return self._wrong_guesses < WRONG_GUESSES

    def _take_run(self, frame: _Frame) -> bool:
        """Decode the complete members within the next bytes, up to a comma; return False where there is none."""
        at = self._at
        run = _RUN if len(self.stack) + _LEVELS <= self._budget.depth else _FLAT_RUN
        match = run.match(self._data, at, min(at + PIECE, len(self._data)))
        end = at if match is None else match.end()
        if end == at:
            return False
        members = self._data[at : end - 1]
        if not members.strip(b" \t\n\r"):
            self._fail("there is a comma without a value before it")
        self._count(members, 1)
        try:
            found = self._run_of(members, frame)
        except msgspec.MsgspecError as error:
            self._fail_as(error)
        self._put_all(frame, found, end - 1)
        return True

    def _run_of(self, members: bytes, frame: _Frame) -> Any:
        """Decode a run of members of `frame`."""
        text = (b"{%b}" if frame.is_object else b"[%b]") % members
        began = time.thread_time()
        found = self._decode_run(text)
        if time.thread_time() - began > _SLOW * max(len(text), 1024):
            self._decode_run = _decode_large_numbers
        return found

    def _put_all(self, frame: _Frame, found: Any, comma: int) -> None:
        """Add the members of a run to `frame`; the next one begins after the comma."""
        if self._keeps and frame.is_object:
            frame.value.update(found)
        elif self._keeps:
            frame.value.extend(found)
        frame.is_empty = False
        self._at = comma + 1

    def _count(self, members: bytes, commas: int) -> None:
        """Count the elements in `members`, and `commas` more; count exactly only where an upper limit is too much."""
        elements = commas + _separators(members)
        if elements > self._budget.elements:
            elements = commas + _separators(_STRINGS.sub(b"", members))
        self._budget.take(elements, len(members) * width(members))

    def _begin_value(self) -> tuple[Any, bool]:
        """Decode the value that begins here; enter a container and return False."""
        first = self._peek()
        if first in b"[{":
            if len(self.stack) >= self._budget.depth:
                self._budget.refuse_depth()
            self._budget.take(1)  # one comma less than members
            self.stack.append(_Frame(first == b"{"))
            self._at += 1
            return None, False
        if first == b'"':
            return self._string(), True
        match = _ATOM.match(self._data, self._at, self._at + PIECE + 1)
        if match is None:
            self._fail("a value is missing")
        if len(match[0]) > PIECE:
            self._fail(f"a number has more than {PIECE} characters")
        self._at = match.end()
        return self._decoded(match[0]), True

    def _put(self, value: Any) -> tuple[Any, bool]:
        """Add the complete `value` to the innermost container; return it where it is the whole text."""
        if not self.stack:
            return value, True
        frame = self.stack[-1]
        if frame.is_object:
            self._budget.take(1)
        if self._keeps:
            if frame.is_object:
                frame.value[frame.name] = value
            else:
                frame.value.append(value)
        frame.is_empty = False
        self._skip_space()
        if self._peek() == b",":
            self._budget.take(1)
            self._at += 1
            return None, False
        return self._end(frame)

    def _end(self, frame: _Frame) -> tuple[Any, bool]:
        if self._peek() != (b"}" if frame.is_object else b"]"):
            self._fail("a comma or the end of an array or object is missing")
        self._at += 1
        self.stack.pop()
        return self._put(frame.value)

    def _name(self) -> Any:
        match = _NAME.match(self._data, self._at, self._at + PIECE)
        if match is None:
            self._fail(f"the name of a member is missing, or has more than {PIECE} bytes")
        self._at = match.end()
        return self._decoded(match[1])

    def _string(self) -> Any:
        """Decode a string, which may be long."""
        has_end = self._data.find(b'"', self._at + 1, self._at + PIECE) >= 0  # a long string mostly has none so near
        match = _WHOLE_STRING.match(self._data, self._at, self._at + PIECE) if has_end else None
        if match is not None:
            self._budget.take(0, len(match[0]) * width(match[0]))
            self._at = match.end()
            return self._decoded(match[0])
        parts: list[str] = []
        self._at += 1
        is_end = False
        while not is_end and self._peek() != b'"':
            text, is_end = self._guessed_chunk()
            if text is None:
                chunk = self._chunk()
                self._budget.take(0, len(chunk) * width(chunk))
                text = self._decoded(b'"%b"' % chunk)
            if self._keeps:
                parts.append(text)
            self._budget.rest()
        self._at += 1
        return "".join(parts)

    def _guessed_chunk(self) -> tuple[str | None, bool]:
        """Decode a chunk up to a guessed end; return None where the guess is wrong, and whether the string ends."""
        chunk = self._data[self._at : self._at + CHUNK]
        end, is_end = json_cut.string_end(chunk) if self._may_guess() else (0, False)
        if not end:
            return None, False
        chunk = chunk[:end]
        try:
            text = _decode(b'"%b"' % chunk)
        except msgspec.MsgspecError:
            self._wrong_guesses += 1
            return None, False
        self._budget.take(0, len(chunk) * width(chunk))
        self._at += end
        return text, is_end

    def _chunk(self) -> bytes:
        at = self._at
        match = _STRING_CHUNK.match(self._data, at, at + CHUNK)
        end = at if match is None else match.end()
        if end == at + CHUNK:
            while end > at and self._data[end : end + 1] and 0x80 <= self._data[end] < 0xC0:  # inside a UTF-8 character
                end -= 1
        if end == at:
            self._fail("a string has an invalid escape, or no end")
        self._at = end
        return self._data[at:end]

    def _decoded(self, piece: bytes) -> Any:
        try:
            return _decode(piece)
        except msgspec.MsgspecError as error:
            self._fail_as(error)

    def _skip_space(self) -> None:
        while match := _SPACE.match(self._data, self._at, self._at + CHUNK):
            at, self._at = self._at, match.end()
            if self._at < at + CHUNK:
                return
            self._budget.rest()

    def _peek(self) -> bytes:
        """Return the next byte."""
        first = self._data[self._at : self._at + 1]
        if not first:
            self._fail("it ends too early")
        return first

    def _fail_as(self, error: msgspec.MsgspecError) -> NoReturn:
        self._fail(str(error).partition(" (byte")[0])

    def _fail(self, why: str) -> NoReturn:
        raise ValueError(f"{why} (at byte {self._at} or soon after)")


def _separators(text: bytes) -> int:
    return len(text) - len(text.translate(None, b",:[{"))
