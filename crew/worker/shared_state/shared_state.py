"""Shared memory of the worker processes and their supervisor: running calls, their limits, lost calls, crash counts.

A classic queue does not count deliveries. The broker flags a message that came back unharmed as redelivered, exactly
like one that crashed its worker. So the supervisor counts: when a process dies, each call that it ran gets one more
crash. Each process writes its own region, the supervisor writes the table of crashes, and all of them read everything.
A call that died with its process and is not redelivered stays in its slot, as a lost call, until a process has replied.
"""

import hashlib
import mmap
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from crew.worker.shared_state import lost_call
from crew.worker.shared_state.exit_status import exit_status_of
from crew.worker.shared_state.lost_call import LostCall

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution

_KEY: Final = 40  # bytes: the key of a call, or the digest of a longer one
_SLOT: Final = struct.Struct(f"<{_KEY}sd")  # key, limit as time.monotonic() or 0.0
_LOST_CALL: Final = struct.Struct(f"<Hi?{lost_call.SIZE}s")  # length, exit code, whether overdue, lost call
_LENGTH: Final = struct.Struct("<H")  # the first field of _LOST_CALL
_DEAD: Final = -1.0  # as a limit: the process died, and its caller has no reply yet
_ALIVE: Final = struct.Struct("<d")  # time.monotonic() at which the I/O thread of a process last ran, or 0.0
_CRASH: Final = struct.Struct(f"<{_KEY}sIdi")  # key, crashes, epoch seconds of the last, exit code of the last
MAX_CRASHES: Final = 512  # calls in the table of crashes; the oldest entry is overwritten
LIVENESS_INTERVAL: Final = 1.0  # seconds between two calls of `mark_alive`
OVERDUE: Final = 2**32 - 1  # as a crash count: the process was killed because this call ran past limit and grace
_EMPTY: Final = bytes(_KEY)


class SharedState:
    """Memory map with one region for each of `processes`, `slots` executions each; create it before the first fork."""

    def __init__(self, processes: int, slots: int) -> None:
        self._processes = processes
        self._slots = slots
        self._lost_calls_at = processes * slots * _SLOT.size  # apart: the slots are read often
        self._crashes_at = self._lost_calls_at + processes * slots * _LOST_CALL.size
        self._alive_at = self._crashes_at + MAX_CRASHES * _CRASH.size
        self._memory = mmap.mmap(-1, self._alive_at + processes * _ALIVE.size)
        self._free: dict[int, list[int]] = {}  # process -> its free slots; only this process has an entry
        # A task ends in its own thread, while the I/O thread may record its interrupt. Without this lock the limit of
        # an ended execution could be written and never cleared: it would be overdue, and its process would be killed.
        self._lock = threading.Lock()

    # --- a worker process -------------------------------------------------------------------------------------------

    def begin(self, process: int, execution: "Execution") -> None:
        """Record that process number `process` runs `execution`."""
        with self._lock:
            free = self._free.setdefault(process, [])
            if not free:  # the first time; or other processes have cleared lost calls of this region
                free += [slot for slot in reversed(self._region(process)) if self._is_free(slot)]
            if free:
                slot = free.pop()
                # Before the key of the slot: a process may die between any two lines.
                if execution.runs_once:
                    self._write_lost_call(slot, execution)
                else:
                    _LENGTH.pack_into(self._memory, self._lost_calls_at + slot * _LOST_CALL.size, 0)
                execution.slot = slot
                key, limit = _key(execution.call.key), execution.times.limit
                _SLOT.pack_into(self._memory, slot * _SLOT.size, key, limit or 0.0)

    def note_limit(self, execution: "Execution") -> None:
        """Record the new limit of `execution`."""
        with self._lock:
            if execution.slot is not None:
                key, due = _key(execution.call.key), execution.due
                _SLOT.pack_into(self._memory, execution.slot * _SLOT.size, key, due or 0.0)

    def end(self, execution: "Execution") -> None:
        """Record that `execution` has ended; idempotent."""
        with self._lock:
            slot, execution.slot = execution.slot, None
            if slot is not None:
                _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY, 0.0)
                self._free[slot // self._slots].append(slot)

    def mark_alive(self, process: int) -> None:
        """Record that the I/O thread of process number `process` runs."""
        _ALIVE.pack_into(self._memory, self._alive_at + process * _ALIVE.size, time.monotonic())

    def mark_stopped(self, process: int) -> None:
        """Record that the I/O thread of process number `process` ended in order, so that its silence is no stall."""
        _ALIVE.pack_into(self._memory, self._alive_at + process * _ALIVE.size, 0.0)

    def crashes(self, call: str) -> int:
        """Number of processes that died while they ran the call of this `Call.key`; OVERDUE: killed because of it."""
        at = self._find(_key(call))
        return 0 if at is None else int(_CRASH.unpack_from(self._memory, at)[1])

    def is_running(self, call: str) -> bool:
        """Whether a process of this worker runs that call. The process may have died without the supervisor knowing."""
        key, at = _key(call), -1
        while 0 <= (at := self._memory.find(key, at + 1)) < self._lost_calls_at:
            if at % _SLOT.size == 0 and _SLOT.unpack_from(self._memory, at)[1] != _DEAD:
                return True
        return False

    def exit_status(self, call: str) -> str:
        """How the last process ended that died with that call, as `exit_status_of` returns it; "" if none has."""
        at = self._find(_key(call))
        return "" if at is None else exit_status_of(_CRASH.unpack_from(self._memory, at)[3])

    def unanswered(self) -> dict[int, LostCall]:
        """Lost calls whose callers have no reply yet: slot -> lost call."""
        dead = [one for process in range(self._processes) for one in self._used_slots(process) if one[2] == _DEAD]
        return {slot: self._read_lost_call(slot) for slot, _, _ in dead}

    def mark_replied(self, slot: int) -> None:
        """Record that the broker has the reply to the lost call in `slot`."""
        if _SLOT.unpack_from(self._memory, slot * _SLOT.size)[1] == _DEAD:  # else another process was faster
            self._clear(slot)

    # --- the supervisor ---------------------------------------------------------------------------------------------

    def limits(self, process: int) -> list[float]:
        """Limits (time.monotonic()) of the calls that process number `process` runs."""
        return [limit for _, _, limit in self._running(process) if limit > 0.0]

    def overdue(self, process: int, since: float) -> list[bytes]:
        """Keys of the calls that process number `process` still runs and whose limit was before `since`."""
        return [key for _, key, limit in self._running(process) if 0.0 < limit < since]

    def last_alive(self, process: int) -> float:
        """When the I/O thread of process number `process` last ran (time.monotonic()); 0.0 before the first time."""
        return float(_ALIVE.unpack_from(self._memory, self._alive_at + process * _ALIVE.size)[0])

    def is_busy(self, process: int) -> bool:
        """Whether process number `process` runs a call; for a dead process, whether it did when it died."""
        return bool(self._running(process))

    def record_crash(self, process: int, code: int) -> None:
        """Process number `process` died with exit code `code`: count one more crash for each call that it ran."""
        for _, key, _ in self._running(process):
            self._count(key, lambda crashes: crashes if crashes == OVERDUE else crashes + 1, code)
        self._end_all(process, code=code)

    def record_kill(self, process: int, overdue: list[bytes], code: int) -> None:
        """Process number `process` was killed for the calls in `overdue`; the other calls that it ran get no crash."""
        for key in overdue:
            self._count(key, lambda crashes: OVERDUE, code)
        self._end_all(process, code=code, overdue=overdue)

    def record_exit(self, process: int) -> None:
        """Process number `process` ended on purpose: clear its region without counting crashes."""
        for slot, _, _ in self._running(process):
            self._clear(slot)
        self._forget(process)

    def _forget(self, process: int) -> None:
        """Reset what belongs to the process, as another process gets its number."""
        self._free.pop(process, None)
        _ALIVE.pack_into(self._memory, self._alive_at + process * _ALIVE.size, 0.0)

    def _end_all(self, process: int, *, code: int, overdue: Sequence[bytes] = ()) -> None:
        """Clear the region of `process`, except lost calls, which stay until their callers have a reply."""
        for slot, key, _ in self._running(process):
            length, _, _, data = _LOST_CALL.unpack_from(self._memory, self._lost_call_at(slot))
            if length:
                _LOST_CALL.pack_into(self._memory, self._lost_call_at(slot), length, code, key in overdue, data)
                _SLOT.pack_into(self._memory, slot * _SLOT.size, key, _DEAD)
            else:
                self._clear(slot)
        self._forget(process)

    def _count(self, key: bytes, change: Callable[[int], int], code: int) -> None:
        at = self._find(key)
        count = 0 if at is None else _CRASH.unpack_from(self._memory, at)[1]
        at = self._oldest() if at is None else at
        _CRASH.pack_into(self._memory, at, key, change(count), time.time(), code)

    # --- slots ------------------------------------------------------------------------------------------------------

    def _running(self, process: int) -> list[tuple[int, bytes, float]]:
        """Slot, key and limit of each call that process number `process` runs."""
        return [one for one in self._used_slots(process) if one[2] != _DEAD]

    def _used_slots(self, process: int) -> list[tuple[int, bytes, float]]:
        slots = [(slot, *_SLOT.unpack_from(self._memory, slot * _SLOT.size)) for slot in self._region(process)]
        return [one for one in slots if one[1] != _EMPTY]

    def _region(self, process: int) -> range:
        return range(process * self._slots, (process + 1) * self._slots)

    def _is_free(self, slot: int) -> bool:
        return self._memory[slot * _SLOT.size : slot * _SLOT.size + _KEY] == _EMPTY

    def _clear(self, slot: int) -> None:
        _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY, 0.0)

    def _write_lost_call(self, slot: int, execution: "Execution") -> None:
        data = lost_call.encode(execution.call, execution.started_run())
        _LOST_CALL.pack_into(self._memory, self._lost_call_at(slot), len(data), 0, False, data)

    def _read_lost_call(self, slot: int) -> LostCall:
        length, code, is_overdue, data = _LOST_CALL.unpack_from(self._memory, self._lost_call_at(slot))
        return lost_call.decode(data[:length], status=exit_status_of(code), is_overdue=is_overdue)

    def _lost_call_at(self, slot: int) -> int:
        return self._lost_calls_at + slot * _LOST_CALL.size

    # --- the table of crashes ---------------------------------------------------------------------------------------

    def _find(self, key: bytes) -> int | None:
        table = self._table()
        at = self._memory.find(key, table.start)
        while at >= 0 and at not in table:
            at = self._memory.find(key, at + 1)
        return at if at >= 0 else None

    def _oldest(self) -> int:
        return min(self._table(), key=lambda at: float(_CRASH.unpack_from(self._memory, at)[2]))

    def _table(self) -> range:
        return range(self._crashes_at, self._alive_at, _CRASH.size)


def _key(call: str) -> bytes:
    raw = call.encode()
    if len(raw) > _KEY:
        raw = hashlib.blake2b(raw, digest_size=_KEY).digest()
    return raw.ljust(_KEY, b"\0")
