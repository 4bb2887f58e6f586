"""What every worker process runs and until when, and which calls have killed one, in memory that they share with their
supervisor.

A classic queue does not count deliveries, and a message that went back unharmed is flagged as redelivered like one
that took its worker down. So the supervisor counts: when a process dies, what it was running has one crash more. Each
process writes only its own region, the supervisor only the table of crashes; both read all.
"""

import hashlib
import mmap
import struct
import time
from collections.abc import Callable
from typing import Final

from crew.worker.execution import Execution

_KEY: Final = 40  # bytes: an id, or the digest of a longer one
_SLOT: Final = struct.Struct(f"<{_KEY}sd")  # key, time.monotonic() of its limit or 0.0
_CRASH: Final = struct.Struct(f"<{_KEY}sId")  # key, crashes, epoch seconds of the last
CRASHES_KEPT: Final = 512
OVERDUE: Final = 2**32 - 1  # as a count of crashes: its process was killed for it, after its limit and grace
_EMPTY: Final = bytes(_KEY)


class Ledger:
    """Memory of `processes` regions with `slots` executions each; make it before the first fork."""

    def __init__(self, processes: int, slots: int) -> None:
        self._slots = slots
        self._crashes_at = processes * slots * _SLOT.size
        self._memory = mmap.mmap(-1, self._crashes_at + CRASHES_KEPT * _CRASH.size)

    # --- a worker process -------------------------------------------------------------------------------------------

    def begin(self, process: int, execution: Execution) -> None:
        """Process number `process` runs `execution` from now on."""
        for slot in self._region(process):
            if self._key_at(slot) == _EMPTY:
                execution.slot = slot
                self.note_limit(execution)
                return

    def note_limit(self, execution: Execution) -> None:
        """When `execution` must have ended has changed."""
        if execution.slot is not None:
            key = _key(execution.call.id)
            _SLOT.pack_into(self._memory, execution.slot * _SLOT.size, key, execution.due or 0.0)

    def end(self, execution: Execution) -> None:
        """`execution` has ended; idempotent."""
        slot, execution.slot = execution.slot, None
        if slot is not None:
            _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY, 0.0)

    def crashes(self, id: str) -> int:
        """How often a process has died while it ran the call `id`; OVERDUE where that was killed for it."""
        at = self._find(_key(id))
        return 0 if at is None else int(_CRASH.unpack_from(self._memory, at)[1])

    # --- the supervisor ---------------------------------------------------------------------------------------------

    def limits(self, process: int) -> list[float]:
        """The limits (time.monotonic()) of what process number `process` runs."""
        return [limit for _, limit in self._running(process) if limit > 0.0]

    def overdue(self, process: int, since: float) -> list[bytes]:
        """Keys of what process number `process` runs on though its limit was before `since` (time.monotonic())."""
        return [key for key, limit in self._running(process) if 0.0 < limit < since]

    def record_crash(self, process: int) -> None:
        """Process number `process` has died: whatever it was running has one crash more."""
        for key, _ in self._running(process):
            self._count(key, lambda crashes: crashes if crashes == OVERDUE else crashes + 1)
        self._clear(process)

    def record_kill(self, process: int, overdue: list[bytes]) -> None:
        """Process number `process` was killed for what is `overdue`; whatever else it was running is not to blame."""
        for key in overdue:
            self._count(key, lambda crashes: OVERDUE)
        self._clear(process)

    def record_exit(self, process: int) -> None:
        """Process number `process` has ended on purpose: nobody is to blame."""
        self._clear(process)

    def _count(self, key: bytes, change: Callable[[int], int]) -> None:
        at = self._find(key)
        count = 0 if at is None else _CRASH.unpack_from(self._memory, at)[1]
        at = self._oldest() if at is None else at
        _CRASH.pack_into(self._memory, at, key, change(count), time.time())

    def _running(self, process: int) -> list[tuple[bytes, float]]:
        slots = [_SLOT.unpack_from(self._memory, slot * _SLOT.size) for slot in self._region(process)]
        return [(key, limit) for key, limit in slots if key != _EMPTY]

    def _clear(self, process: int) -> None:
        for slot in self._region(process):
            _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY, 0.0)

    def _region(self, process: int) -> range:
        return range(process * self._slots, (process + 1) * self._slots)

    def _key_at(self, slot: int) -> bytes:
        return self._memory[slot * _SLOT.size : slot * _SLOT.size + _KEY]

    def _find(self, key: bytes) -> int | None:
        table = self._table()
        at = self._memory.find(key, table.start)
        while at >= 0 and at not in table:
            at = self._memory.find(key, at + 1)
        return at if at >= 0 else None

    def _oldest(self) -> int:
        return min(self._table(), key=lambda at: float(_CRASH.unpack_from(self._memory, at)[2]))

    def _table(self) -> range:
        return range(self._crashes_at, len(self._memory) - _CRASH.size + 1, _CRASH.size)


def _key(id: str) -> bytes:
    raw = id.encode()
    if len(raw) > _KEY:
        raw = hashlib.blake2b(raw, digest_size=_KEY).digest()
    return raw.ljust(_KEY, b"\0")
