"""What every worker process runs, and which calls have killed one, in memory that they share with their supervisor.

A classic queue does not count deliveries, and a message that went back unharmed is flagged as redelivered like one
that took its worker down. So the supervisor counts: when a process dies, what it was running has one crash more. Each
process writes only its own region, the supervisor only the table of crashes; both read all.
"""

import hashlib
import mmap
import struct
import time
from typing import Final

from crew.worker.execution import Execution

_KEY: Final = 40  # bytes: an id, or the digest of a longer one
_SLOT: Final = struct.Struct(f"<{_KEY}s")
_CRASH: Final = struct.Struct(f"<{_KEY}sId")  # key, crashes, epoch seconds of the last
CRASHES_KEPT: Final = 512
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
        for slot in range(process * self._slots, (process + 1) * self._slots):
            if self._key_at(slot) == _EMPTY:
                _SLOT.pack_into(self._memory, slot * _SLOT.size, _key(execution.call.id))
                execution.slot = slot
                return

    def end(self, execution: Execution) -> None:
        """`execution` has ended; idempotent."""
        slot, execution.slot = execution.slot, None
        if slot is not None:
            _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY)

    def crashes(self, id: str) -> int:
        """How often a process has died while it ran the call `id`."""
        at = self._find(_key(id))
        return 0 if at is None else int(_CRASH.unpack_from(self._memory, at)[1])

    # --- the supervisor ---------------------------------------------------------------------------------------------

    def record_crash(self, process: int) -> None:
        """Process number `process` has died: whatever it was running has one crash more."""
        for key in self._clear(process):
            at = self._find(key)
            count = 0 if at is None else _CRASH.unpack_from(self._memory, at)[1]
            at = self._oldest() if at is None else at
            _CRASH.pack_into(self._memory, at, key, count + 1, time.time())

    def record_exit(self, process: int) -> None:
        """Process number `process` has ended on purpose: nobody is to blame."""
        self._clear(process)

    def _clear(self, process: int) -> list[bytes]:
        running = []
        for slot in range(process * self._slots, (process + 1) * self._slots):
            key = self._key_at(slot)
            if key != _EMPTY:
                running.append(key)
                _SLOT.pack_into(self._memory, slot * _SLOT.size, _EMPTY)
        return running

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
