"""A process of `crew dev`: restarted when its sources change and when it exits."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from crew.cli import process
from crew.cli.dev.watch import Watch

_STEP: Final = 3.0  # seconds from the first SIGTERM to the second, which skips the drain, and from that to SIGKILL
_FIRST_DELAY: Final = 1.0  # seconds before a restart, doubled each time
_MAX_DELAY: Final = 30.0  # seconds
_STABLE: Final = 10.0  # seconds; after a run this long the next restart has the first delay again
_NO_RETRY: Final = {2, 78}  # exit statuses of a worker that a retry cannot fix: usage, refused login, duplicate task
_POLL: Final = 0.05  # seconds


class Child:
    """A process in a session of its own, so that a Ctrl-C in the terminal does not reach it.

    Args:
        name: in messages.
        command: program and arguments.
        environment: environment of the process.
        folder: a changed source in it or below restarts the process.
        report: prints a message.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._folder = folder
        self._report = report
        self._watch = Watch(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = float("inf")
        self._delay = _FIRST_DELAY

    def __repr__(self) -> str:
        return f"<Child {self._name} {f'process {self.pid}' if self.pid else 'ended'}>"

    @property
    def pid(self) -> int | None:
        """Process id; None if it is not running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._started_at = time.monotonic()
        self._start_at = float("inf")
        self._report(f"{self._name} started (pid {self.pid})")

    def check(self) -> None:
        """Restart the process after a change, report its exit, or start it when the restart delay is over."""
        if changed := self._watch.changed():
            self._report(f"{_named(changed)} changed: restarting {self._name}")
            self.stop()
            self._delay = _FIRST_DELAY
            self.start()
        elif self._process and self._process.poll() is not None:
            self._on_ended(self._process.returncode)
        elif time.monotonic() >= self._start_at:
            self.start()

    def stop(self, *, skip_waiting: Callable[[], bool] = lambda: False) -> None:
        """Stop the process and all that it started: SIGTERM, a second SIGTERM, then SIGKILL. Idempotent.

        Args:
            skip_waiting: polled while waiting; True takes the next step at once.
        """
        self._start_at = float("inf")
        if not self._process:
            return
        if not (self._ends_after(signal.SIGTERM, skip_waiting) or self._ends_after(signal.SIGTERM, skip_waiting)):
            self._report(f"{self._name} does not stop: killing it (pid {self._process.pid})")
            process.kill_tree(self._process.pid)
            self._process.wait()
        self._kill_leftovers()

    def _ends_after(self, number: signal.Signals, skip_waiting: Callable[[], bool]) -> bool:
        assert self._process
        self._process.send_signal(number)
        deadline = time.monotonic() + _STEP
        while self._process.poll() is None:
            if time.monotonic() > deadline or skip_waiting():
                return False
            time.sleep(_POLL)
        return True

    def _on_ended(self, status: int) -> None:
        self._kill_leftovers()
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        if status in _NO_RETRY:
            self._report(f"{self._name} {how}: restarting it when a source in {self._folder} or below changes")
            return
        if time.monotonic() - self._started_at > _STABLE:
            self._delay = _FIRST_DELAY
        self._report(f"{self._name} {how}: restarting it in {self._delay:g} s, or when a source changes")
        self._start_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _MAX_DELAY)

    def _kill_leftovers(self) -> None:
        """Kill the processes that the ended process has left in its session."""
        assert self._process
        process.kill_session(self._process.pid)
        self._process = None


def _named(files: Sequence[Path]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
