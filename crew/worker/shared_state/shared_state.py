"""What every worker process runs and until when, and which calls have killed one, in memory that they share with their
supervisor.

A classic queue does not count deliveries, and a message that went back unharmed is flagged as redelivered like one
that took its worker down. So the supervisor counts: when a process dies, what it was running has one crash more. Each
process writes its own region, the supervisor the table of crashes, and all read all. What has died in a region and is
not delivered again stays there, until the process that was asked to has told its caller: an obituary.
"""

import hashlib
import mmap
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from crew.worker.execution.execution import Execution
from crew.worker.shared_state import lost_call
from crew.worker.shared_state.exit_status import exit_status_of
from crew.worker.shared_state.lost_call import LostCall

_KEY: Final = 40  # bytes: the key of a call, or the digest of a longer one
_SLOT: Final = struct.Struct(f"<{_KEY}sd")  # key, time.monotonic() of its limit or 0.0
_LOST_CALL: Final = struct.Struct(f"<Hi?{lost_call.SIZE}s")  # bytes of it, exit code, whether overdue, obituary
_LENGTH: Final = struct.Struct("<H")  # how an obituary begins
_DEAD: Final = -1.0  # as a limit: its process has died, and its caller was not told
_BEAT: Final = struct.Struct("<d")  # time.monotonic() at which the I/O thread of a process ran last, or 0.0
_CRASH: Final = struct.Struct(f"<{_KEY}sIdi")  # key, crashes, epoch seconds of the last, exit code of the last
CRASHES_KEPT: Final = 512
OVERDUE: Final = 2**32 - 1  # as a count of crashes: its process was killed for it, after its limit and grace
_EMPTY: Final = bytes(_KEY)


class SharedState:
    """Memory of `processes` regions with `slots` executions each; make it before the first fork."""

    def __init__(self, processes: int, slots: int) -> None:
        self._processes = processes
        self._slots = slots
        self._lost_calls_at = processes * slots * _SLOT.size  # apart: the slots are looked at all the time
        self._crashes_at = self._lost_calls_at + processes * slots * _LOST_CALL.size
        self._beats_at = self._crashes_at + CRASHES_KEPT * _CRASH.size
        self._memory = mmap.mmap(-1, self._beats_at + processes * _BEAT.size)
        self._free: dict[int, list[int]] = {}  # process -> its free slots, where that is this process
        # A task ends in its own thread while the I/O thread may be noting that it was interrupted: what is noted of one
        # that has ended would be overdue for ever, and its process killed for it.
        self._changing = threading.Lock()

    # --- a worker process -------------------------------------------------------------------------------------------

    def begin(self, process: int, execution: Execution) -> None:
        """Process number `process` runs `execution` from now on."""
        with self._changing:
            free = self._free.setdefault(process, [])
            if not free:  # the first time; or another process has buried what died here before
                free += [slot for slot in reversed(self._region(process)) if self._is_free(slot)]
            if free:
                slot = free.pop()
                self._write_lost_call(slot, execution)
                execution.slot = slot
                self._write_limit(slot, execution)

    def note_limit(self, execution: Execution) -> None:
        """When `execution` must have ended has changed."""
        with self._changing:
            if execution.slot is not None:
                self._write_limit(execution.slot, execution)

    def end(self, execution: Execution) -> None:
        """`execution` has ended; idempotent."""
        with self._changing:
            slot = execution.take_slot()
            if slot is not None:
                self._clear(slot)
                self._free[slot // self._slots].append(slot)

    def beat(self, process: int) -> None:
        """The I/O thread of process number `process` runs."""
        _BEAT.pack_into(self._memory, self._beats_at + process * _BEAT.size, time.monotonic())

    def rest(self, process: int) -> None:
        """The I/O thread of process number `process` has ended in order: its silence means nothing."""
        _BEAT.pack_into(self._memory, self._beats_at + process * _BEAT.size, 0.0)

    def crashes(self, call: str) -> int:
        """How often a process has died while it ran the call of this `Call.key`; OVERDUE where killed for it."""
        at = self._find(_key(call))
        return 0 if at is None else int(_CRASH.unpack_from(self._memory, at)[1])

    def is_running(self, call: str) -> bool:
        """Whether a process of this worker runs that call; it may be dead, and its supervisor has not noticed yet."""
        key, at = _key(call), -1
        while 0 <= (at := self._memory.find(key, at + 1)) < self._lost_calls_at:
            if at % _SLOT.size == 0 and _SLOT.unpack_from(self._memory, at)[1] != _DEAD:
                return True
        return False

    def exit_status(self, call: str) -> str:
        """How the last of these processes ended, as `exit_status_of` returns it; "" where there is none."""
        at = self._find(_key(call))
        return "" if at is None else exit_status_of(_CRASH.unpack_from(self._memory, at)[3])

    def unanswered(self) -> dict[int, LostCall]:
        """What has died with its process, so that its caller waits in vain: slot -> obituary."""
        dead = [one for process in range(self._processes) for one in self._noted(process) if one[2] == _DEAD]
        return {slot: self._read_lost_call(slot) for slot, _, _ in dead}

    def mark_replied(self, slot: int) -> None:
        """The caller of what has died in `slot` was told."""
        if _SLOT.unpack_from(self._memory, slot * _SLOT.size)[1] == _DEAD:  # else somebody else was faster
            self._clear(slot)

    # --- the supervisor ---------------------------------------------------------------------------------------------

    def limits(self, process: int) -> list[float]:
        """The limits (time.monotonic()) of what process number `process` runs."""
        return [limit for _, _, limit in self._running(process) if limit > 0.0]

    def overdue(self, process: int, since: float) -> list[bytes]:
        """Keys of what process number `process` runs on though its limit was before `since` (time.monotonic())."""
        return [key for _, key, limit in self._running(process) if 0.0 < limit < since]

    def last_beat(self, process: int) -> float:
        """When the I/O thread of process number `process` ran last (time.monotonic()); 0.0 where it has not yet."""
        return float(_BEAT.unpack_from(self._memory, self._beats_at + process * _BEAT.size)[0])

    def is_busy(self, process: int) -> bool:
        """Whether process number `process` runs anything; of a dead one, whether it did."""
        return bool(self._running(process))

    def record_crash(self, process: int, code: int) -> None:
        """Process number `process` has died with the exit code `code`: whatever it was running has one crash more."""
        for _, key, _ in self._running(process):
            self._count(key, lambda crashes: crashes if crashes == OVERDUE else crashes + 1, code)
        self._end_all(process, code=code)

    def record_kill(self, process: int, overdue: list[bytes], code: int) -> None:
        """Process number `process` was killed for what is `overdue`; whatever else it was running is not to blame."""
        for key in overdue:
            self._count(key, lambda crashes: OVERDUE, code)
        self._end_all(process, code=code, overdue=overdue)

    def record_exit(self, process: int) -> None:
        """Process number `process` has ended on purpose: nobody is to blame."""
        for slot, _, _ in self._running(process):
            self._clear(slot)
        self._forget(process)

    def _forget(self, process: int) -> None:
        """The next process of this number is another one."""
        self._free.pop(process, None)
        _BEAT.pack_into(self._memory, self._beats_at + process * _BEAT.size, 0.0)

    def _end_all(self, process: int, *, code: int, overdue: Sequence[bytes] = ()) -> None:
        """Nothing runs there any longer: what nobody runs again stays, until somebody has told its caller."""
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
        """Slot, key and limit of what process number `process` runs."""
        return [one for one in self._noted(process) if one[2] != _DEAD]

    def _noted(self, process: int) -> list[tuple[int, bytes, float]]:
        slots = [(slot, *_SLOT.unpack_from(self._memory, slot * _SLOT.size)) for slot in self._region(process)]
        return [one for one in slots if one[1] != _EMPTY]

    def _region(self, process: int) -> range:
        return range(process * self._slots, (process + 1) * self._slots)

    def _is_free(self, slot: int) -> bool:
        return self._memory[slot * _SLOT.size : slot * _SLOT.size + _KEY] == _EMPTY

    def _clear(self, slot: int) -> None:
        _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY, 0.0)

    def _write_limit(self, slot: int, execution: Execution) -> None:
        _SLOT.pack_into(self._memory, slot * _SLOT.size, _key(execution.call.key), execution.due or 0.0)

    def _write_lost_call(self, slot: int, execution: Execution) -> None:
        """Before its key: a process may die between any two lines."""
        data = lost_call.written(execution.call, execution.started_run()) if execution.runs_once else b""
        if data:
            _LOST_CALL.pack_into(self._memory, self._lost_call_at(slot), len(data), 0, False, data)
        else:
            _LENGTH.pack_into(self._memory, self._lost_call_at(slot), 0)

    def _read_lost_call(self, slot: int) -> LostCall:
        length, code, is_overdue, data = _LOST_CALL.unpack_from(self._memory, self._lost_call_at(slot))
        return lost_call.read(data[:length], status=exit_status_of(code), is_overdue=is_overdue)

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
        return range(self._crashes_at, self._beats_at, _CRASH.size)


def _key(call: str) -> bytes:
    raw = call.encode()
    if len(raw) > _KEY:
        raw = hashlib.blake2b(raw, digest_size=_KEY).digest()
    return raw.ljust(_KEY, b"\0")
