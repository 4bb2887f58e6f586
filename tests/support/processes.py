"""Real processes for tests: each in its own session, with its output in a file, and stopped at the end of its test."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.preloaded.client import Forked, started
from tests.support.waiting import eventually

MARK = "CREW_TEST_PROCESSES"  # environment variable that children inherit, so that they are found in every session
# The log line and the traceback below it, up to the next log line, which begins with its date.
FAILED_EXECUTION = re.compile(
    r"^\d{4}-\d\d-\d\d [^\n]* execution failed: .*?(?=^\d{4}-\d\d-\d\d |\Z)", re.MULTILINE | re.DOTALL
)
READY_WITHIN = 30.0  # seconds, on a busy machine with two cores
STOPS_WITHIN = 15.0  # seconds
LONGEST = 200_000  # bytes of an environment in /proc
GONE_WITHIN = 5.0  # seconds from the end of a process to the end of its children, on a busy machine


class Process:
    """One started process.

    Attributes:
        command: its command line, for messages.
        pid: of the process itself, which is the leader of its session.

    Args:
        name: of the process in /proc, if it may be a fork of a process that has imported crew.
        stdin: the file of its standard input; default: none.
        errors: the file for its stderr; default: that of its output.
    """

    def __init__(
        self,
        command: list[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        output: Path,
        name: str = "",
        stdin: Path | None = None,
        errors: Path | None = None,
    ) -> None:
        self.command = command
        self._output = output
        none = Path(os.devnull)
        with output.open("wb") as file, (stdin or none).open("rb") as given, (errors or none).open("wb") as error_file:
            streams = given, file, error_file if errors else file
            self._popen: subprocess.Popen[bytes] | Forked = (
                name and started(command, environment=environment, folder=folder, streams=streams, comm=name)
            ) or subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def __repr__(self) -> str:
        state = "running" if self.is_running else f"ended with {self._popen.returncode}"
        return f"<Process {' '.join(self.command)}: {state}; its output:\n{self.output}>"

    @property
    def output(self) -> str:
        """Its output so far, including stderr."""
        return self._output.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen.poll() is None

    @property
    def own_output(self) -> str:
        """Its output so far, without the log lines and tracebacks of failed executions."""
        return FAILED_EXECUTION.sub("", self.output)

    def from_now(self) -> "Output":
        """Its output from now on, for a process that several tests share."""
        return Output(self)

    def says(self, text: str, *, times: int = 1, timeout: float = READY_WITHIN) -> "Process":
        """Wait until the output has `text` that often; fails if the process ends before, or after `timeout` seconds."""

        def has_text_or_ended() -> bool:
            return self.output.count(text) >= times or not self.is_running

        with suppress(AssertionError):
            eventually(has_text_or_ended, timeout=timeout)
        assert self.output.count(text) >= times, f"never printed {text!r}: {self!r}"
        return self

    def ends(self, timeout: float) -> int:
        """Wait until the process ends by itself; returns its exit status."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self!r}") from None

    def stop(self, number: int = signal.SIGTERM, timeout: float | None = None) -> int:
        """Send a signal to this process only, and wait until it has ended; returns its exit status."""
        if self.is_running:
            os.kill(self.pid, number)
        return self.ends(STOPS_WITHIN if timeout is None else timeout)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
        self._popen.wait()


class Output:
    """The output of a process since the test began."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._start = len(process.output)

    @property
    def output(self) -> str:
        """The output so far."""
        return self._process.output[self._start :]


class Processes:
    """Starts processes with a shared environment, and stops them all.

    Args:
        folder: for the files with their output.
        environment: added to the environment of the tests.
        stops_within: seconds in which each process must stop after SIGTERM.
        gone_within: seconds in which their children must end.
        preloaded: whether scripts and `crew` are forks of a process that has imported crew: they start with a tenth of
            the CPU time, but /proc shows the command line and the environment of that process.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        stops_within: float = STOPS_WITHIN,
        gone_within: float = GONE_WITHIN,
        preloaded: bool = False,
    ) -> None:
        self._is_preloaded = preloaded
        self._folder = folder
        self._stops_within = stops_within
        self._gone_within = gone_within
        self._mark = uuid.uuid4().hex
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment, MARK: self._mark}
        self._started: list[Process] = []

    def start(
        self, *command: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start `command` in `folder` (default: the folder of the outputs), with an additional `environment`."""
        process = Process(
            [str(word) for word in command],
            environment={**self._environment, **(environment or {})},
            folder=folder or self._folder,
            output=self._folder / f"process-{len(self._started)}.log",
            name=_name(self._mark) if self._is_preloaded else "",
        )
        self._started.append(process)
        return process

    def python(
        self,
        script: str | Path,
        *flags: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a script with the interpreter of the tests."""
        return self.start(sys.executable, script, *flags, folder=folder, environment=environment)

    def crew(self, *arguments: str | Path, folder: Path | None = None) -> Process:
        """Start the `crew` command."""
        return self.start(sys.executable, "-m", "crew", *arguments, folder=folder)

    def run(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a `crew` command to its end; its output and its errors are separate."""
        number = len(self._started)
        given, output, errors = (self._folder / f"{name}-{number}" for name in ("stdin", "stdout", "stderr"))
        given.write_bytes(stdin)
        command = [sys.executable, "-m", "crew", *arguments]
        process = Process(
            command,
            environment=self._environment,
            folder=self._folder,
            output=output,
            name=_name(self._mark) if self._is_preloaded else "",
            stdin=given,
            errors=errors,
        )
        self._started.append(process)
        status = process.ends(READY_WITHIN)
        return subprocess.CompletedProcess(command, status, output.read_bytes(), errors.read_bytes())

    def stop(self) -> None:
        """Stop all processes, the last one first; fails if one does not stop, or leaves a child running."""
        errors = [error for process in reversed(self._started) if (error := _stopped(process, self._stops_within))]
        with suppress(AssertionError):
            eventually(lambda: not self.alive(), timeout=self._gone_within)
        for pid, command in self.alive().items():
            errors.append(f"{command!r} still runs")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not errors, "\n".join(errors)

    def alive(self) -> dict[int, str]:
        """Pid and command of all running processes that were started here, including children; on Linux only."""
        return {pid: command for pid in _pids() if (command := _command_if_marked(pid, self._mark))}


@contextmanager
def running(folder: Path, environment: Mapping[str, str], *, preloaded: bool = False) -> Iterator[Processes]:
    """Starts processes; all are stopped at the end of the block."""
    processes = Processes(folder, environment, preloaded=preloaded)
    try:
        yield processes
    finally:
        processes.stop()


def may_fork(request: pytest.FixtureRequest) -> bool:
    """Whether the processes of a test or module may be forks of a process that has imported crew: see `Processes`."""
    return request.node.get_closest_marker("own_interpreters") is None


def _stopped(process: Process, timeout: float) -> str | None:
    """Stop the process in `timeout` seconds; returns an error message, or None."""
    try:
        process.stop(timeout=timeout)
    except AssertionError as error:
        process.kill()
        return f"SIGTERM did not stop it, {error}"
    return None


def _name(mark: str) -> str:
    """The name of a fork, which its own forks inherit: the environment in /proc is that of the last exec."""
    return mark[:15]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - Path takes longer


def _command_if_marked(pid: int, mark: str) -> str | None:
    try:
        is_marked = f"{MARK}={mark}".encode() in _read(pid, "environ")
        if not is_marked and _read(pid, "comm").rstrip() != _name(mark).encode():
            return None
        return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip() or None
    except OSError:  # it has ended, or belongs to another user
        return None


def _read(pid: int, name: str) -> bytes:
    """A small file of a process. It is read for each process of the machine, again and again: `open` takes longer."""
    file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    try:
        return os.read(file, LONGEST)
    finally:
        os.close(file)
