"""Reads the record that the tasks of the chaos test write: start, end and process of each run."""

import contextlib
import functools
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.starvation import Starvation, waited_for_cpu


@dataclass(kw_only=True)
class Run:
    """One run of a call. Times are time.monotonic().

    Attributes:
        limit: when the run must end.
        stopped_at: when it ended, or saw the interrupt.
    """

    id: str
    pid: int
    started: float
    limit: float
    ended: float | None = None
    stopped_at: float | None = None


@dataclass
class Life:
    """The life of a worker process.

    Attributes:
        starvation: how long the process has waited for a CPU.
        serves_since: when it began its first run: since then it receives cancels; infinity if it never did.
    """

    starvation: Starvation
    serves_since: float = math.inf
    died: float | None = None
    was_killed: bool = False


@dataclass
class Record:
    """Reads the growing file `path`, and checks which processes are running.

    Attributes:
        broker: how long the broker has waited for a CPU, if it is a process of this machine.
    """

    path: Path
    broker: Starvation | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    lives: dict[int, Life] = field(default_factory=dict)
    _read: int = 0

    def look(self) -> None:
        """Read new lines, and note the processes that have died."""
        now = time.monotonic()
        for one in filter(None, (self.broker, *(self.lives[pid].starvation for pid in self.alive()))):
            one.look()
        for pid in self.alive():
            if not _is_alive(pid):
                self.lives[pid].died = now
        with self.path.open("rb") as file:
            file.seek(self._read)
            written, newline, _ = file.read().rpartition(b"\n")  # the last line may be incomplete
        self._read += len(written + newline)
        for line in written.decode().splitlines():
            word, *values, at = line.split()
            self._note(word, values, float(at))

    def alive(self) -> list[int]:
        """Processes that have not died, as far as known."""
        return [pid for pid, life in self.lives.items() if life.died is None]

    def busy(self) -> list[int]:
        """Living processes with an open run."""
        return sorted({run.pid for run in self.unended() if self.lives[run.pid].died is None})

    def unended(self) -> Iterator[Run]:
        """Runs without a recorded end."""
        return (run for run in self.runs.values() if run.ended is None)

    def starved(self, pid: int | None, since: float, until: float) -> float:
        """Seconds for which a worker process or the broker waited for a CPU; the longest of all workers if None."""
        lives = self.lives.values() if pid is None else [self.lives[pid]]
        worker = max((life.starvation.between(since, until) for life in lives), default=0.0)
        return worker + (self.broker.between(since, until) if self.broker else 0.0)

    def kill(self, pid: int) -> None:
        """Kill the process with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.lives[pid].died = time.monotonic()
            self.lives[pid].was_killed = True

    def end_of(self, run: Run) -> float | None:
        """When `run` ended, by itself or by the death of its process."""
        return self.lives[run.pid].died if run.ended is None else run.ended

    def stop_of(self, run: Run) -> float | None:
        """When `run` ended, or saw the interrupt."""
        return self.end_of(run) if run.stopped_at is None else run.stopped_at

    def _note(self, word: str, values: list[str], at: float) -> None:
        if word == "BORN":
            pid = int(values[0])
            self.lives[pid] = Life(Starvation(functools.partial(waited_for_cpu, pid)))
        elif word == "START":
            token, id, limit = values
            pid = int(token.split(".")[0])
            self.runs[token] = Run(id=id, pid=pid, started=at, limit=float(limit))
            self.lives[pid].serves_since = min(self.lives[pid].serves_since, at)
        elif run := self.runs.get(values[0]):  # None if an interrupt came before START
            run.stopped_at = run.stopped_at or at
            if word == "END":
                run.ended = run.ended or at


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
