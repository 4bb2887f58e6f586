"""Measures how long a process waited for a CPU: delays of a busy machine are not failures of crew."""

import asyncio
import bisect
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

WAITED: Final = Path("/proc/self/schedstat")  # of the main thread: ns on a CPU, ns in its queue, turns; Linux only


def waited_for_cpu(pid: int | str = "self") -> float:
    """Seconds for which the threads that a process has now have waited for a CPU, summed; 0.0 without Linux."""
    waited = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            waited += int(thread.read_text().split()[1])
    return waited / 1e9


@contextlib.contextmanager
def timers() -> Iterator[list[float]]:
    """Run a timer of the event loop every 5 ms; yields by how many seconds of our own work each one was late."""
    late, loop, starvation = [0.0], asyncio.get_running_loop(), Starvation()

    timer: asyncio.Handle | None = None

    def tick(due: float) -> None:
        nonlocal timer
        now = time.monotonic()
        starvation.look()
        late.append(now - due - starvation.between(due, now))
        timer = loop.call_later(0.005, tick, now + 0.005)

    timer = loop.call_soon(tick, time.monotonic())
    try:
        yield late
    finally:
        timer.cancel()


def main_thread_waited() -> float:
    """Seconds for which the main thread of this process has waited for a CPU; 0.0 without Linux."""
    with contextlib.suppress(FileNotFoundError):
        return int(WAITED.read_text().split()[1]) / 1e9
    return 0.0


class Starvation:
    """Samples of the total time that a process has waited for a CPU.

    Args:
        waited: returns the total in seconds; by default that of the main thread of this process.
    """

    def __init__(self, waited: Callable[[], float] = main_thread_waited) -> None:
        self._read = waited
        self._times = [0.0]
        self._waited = [0.0]

    def look(self) -> None:
        """Take a sample."""
        self._waited.append(max(self._waited[-1], self._read()))  # the total of an ended thread or process is gone
        self._times.append(time.monotonic())

    def between(self, since: float, until: float) -> float:
        """Seconds waited from `since` to `until` (time.monotonic()), by the samples that enclose them."""
        first = bisect.bisect_right(self._times, since) - 1
        last = min(bisect.bisect_left(self._times, until), len(self._times) - 1)
        return max(0.0, self._waited[last] - self._waited[first])
