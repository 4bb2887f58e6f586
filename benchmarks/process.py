"""A measured process: start it, send it orders, read its CPU time and memory, stop it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import load
import msgspec

FOLDER = Path(__file__).parent
READY_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 15.0  # seconds; a crew worker drains first
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of Linux: what a process has used, in nanoseconds, as `time.process_time` counts it


class Memory(msgspec.Struct, frozen=True):
    """MiB of one process: resident set, proportional set, unique set; nan if the kernel does not report it."""

    rss: float
    pss: float
    uss: float


class Process:
    """A running script of this folder, or `-m` and a module.

    Args:
        arguments: of the script, after its file name.
        url: of the broker; passed in the environment, as it contains a password.
        profile: file for the profile of a worker, or "".
        tree: folder from which it imports crew; default: as this process.
        python: interpreter; default: that of this process.
        environment: additional variables.
    """

    def __init__(
        self,
        script: str,
        *arguments: str,
        url: str,
        profile: str = "",
        tree: Path | None = None,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._script = script
        self._popen = subprocess.Popen(
            [str(python or sys.executable), script if script == "-m" else str(FOLDER / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "CREW_AMQP_URL": url,
                "CREW_BENCHMARK_PROFILE": profile,
                **({"PYTHONPATH": str(tree)} if tree else {}),
                **(environment or {}),
            },
        )

    def __repr__(self) -> str:
        return f"<Process {self._script}, pid {self._popen.pid}>"

    def wait_ready(self) -> None:
        """Wait until the process prints "ready"; raises RuntimeError if it ends instead, or takes too long."""
        stdout: IO[str] = self._popen.stdout  # type: ignore[assignment]  # it is a PIPE
        if not select.select([stdout], [], [], READY_TIMEOUT)[0]:
            raise RuntimeError(f"{self} is not ready after {READY_TIMEOUT:g} s")
        if self.line() != "ready":
            raise RuntimeError(f"{self} ended before it was ready")

    def order(self, seconds: float, in_flight: int, profile: str | None = None) -> load.Measurement:
        """Send an order to a client; returns its measurement."""
        measurement: load.Measurement = self.request(load.Order(seconds=seconds, in_flight=in_flight, profile=profile))
        return measurement

    def request(self, order: Mapping[str, Any]) -> Any:
        """Send any order to a client, as a line of JSON; returns its answer."""
        stdin: IO[str] = self._popen.stdin  # type: ignore[assignment]  # it is a PIPE
        print(json.dumps(order), file=stdin, flush=True)
        line = self.line()
        if not line:
            raise RuntimeError(f"{self} ended during an order")
        return json.loads(line)

    def cpu(self) -> float:
        """CPU seconds that the process and its children have used."""
        return sum(map(cpu_of, self.pids))

    @property
    def pids(self) -> list[int]:
        """Its process id, and those of its children."""
        return [self._popen.pid, *children_of(self._popen.pid)]

    def memory(self) -> Memory:
        """Memory of its largest child, or of the process itself if it has no children."""
        pids = list(children_of(self._popen.pid)) or [self._popen.pid]
        return max(map(memory_of, pids), key=lambda memory: memory.rss)

    def pss(self) -> float:
        """MiB of it and its children together; shared pages count in part."""
        return sum(memory_of(pid).pss for pid in self.pids)

    def stop(self) -> None:
        """Stop the process by SIGTERM, and after a timeout kill it with its children. Idempotent."""
        if self._popen.poll() is not None:
            return
        self._popen.terminate()
        try:
            self._popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.pids):
                os.kill(pid, signal.SIGKILL)
            self._popen.wait()

    def line(self) -> str:
        """The next line of its output; "" if it has ended."""
        stdout: IO[str] = self._popen.stdout  # type: ignore[assignment]  # it is a PIPE
        return stdout.readline().strip()


def children_of(pid: int) -> Iterator[int]:
    """The process ids of the children of `pid`."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(_stat(stat)[1]) == pid:
                yield int(stat.parent.name)
        except OSError:
            continue  # the process has ended


def descendants_of(pid: int) -> Iterator[int]:
    """The process ids of the children of `pid`, of their children, and so on."""
    for child in children_of(pid):
        yield child
        yield from descendants_of(child)


def cpu_of(pid: int) -> float:
    """CPU seconds of one process (clock_getcpuclockid(3)); /proc/PID/stat counts in hundredths of a second."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def wake_ups_of(pid: int) -> int:
    """How often threads of the process have waited and were woken: voluntary context switches (proc(5))."""
    statuses = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("[0-9]*/status")]
    return sum(int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for status in statuses)


def _stat(file: Path) -> list[str]:
    """The fields after the command's name: state, parent, ... (proc(5) counts them from 3)."""
    return file.read_text().rpartition(")")[2].split()


def memory_of(pid: int) -> Memory:
    """The memory of one process."""
    status = _kibibytes(Path(f"/proc/{pid}/status"))
    try:
        rollup = _kibibytes(Path(f"/proc/{pid}/smaps_rollup"))
    except OSError:
        rollup = {}
    nan = float("nan")
    own = rollup.get("Private_Clean", nan) + rollup.get("Private_Dirty", nan)
    return Memory(status["VmRSS"] / 1024, rollup.get("Pss", nan) / 1024, own / 1024)


def _kibibytes(file: Path) -> dict[str, float]:
    lines = (line.split() for line in file.read_text().splitlines() if line.endswith(" kB"))
    return {fields[0].rstrip(":"): float(fields[1]) for fields in lines}
