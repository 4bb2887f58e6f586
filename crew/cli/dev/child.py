"""A process that `crew dev` keeps alive: started again after a change of its sources, and after its end."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from crew.cli.dev import process
from crew.cli.dev.watch import Watch

_STEP: Final = 3.0  # seconds from SIGTERM to a second one, which hurries a worker, and from that to SIGKILL
_FIRST_DELAY: Final = 1.0  # seconds before a restart, doubled each time
_LAST_DELAY: Final = 30.0
_STABLE: Final = 10.0  # seconds; who has lived that long starts again with the first delay
_HOPELESS: Final = {2, 78}  # exit statuses of a worker that no retry can mend: bad usage, refused login, duplicate task
_POLL: Final = 0.05  # seconds


class Child:
    """A process in a session of its own, so that a Ctrl-C in the terminal does not reach it.

    Args:
        name: what it is called in messages.
        command: what to run.
        environment: in which it runs.
        folder: a change of a source below it restarts the process.
        say: where a sentence goes.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._folder = folder
        self._say = say
        self._watch = Watch(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = float("inf")
        self._delay = _FIRST_DELAY

    def __repr__(self) -> str:
        return f"<Child {self._name} {f'process {self.pid}' if self.pid else 'ended'}>"

    @property
    def pid(self) -> int | None:
        """Process id; None where it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._started_at = time.monotonic()
        self._start_at = float("inf")
        self._say(f"{self._name} (process {self.pid})")

    def look(self) -> None:
        """Do what is due: a restart after a change, a word about its end, a start after the delay."""
        if changed := self._watch.changed():
            self._say(f"{_named(changed)} changed: {self._name} starts again")
            self.stop()
            self._delay = _FIRST_DELAY
            self.start()
        elif self._process and self._process.poll() is not None:
            self._on_ended(self._process.returncode)
        elif time.monotonic() >= self._start_at:
            self.start()

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """End it and all that it started: asked, asked again, then killed; idempotent.

        Args:
            hurry: asked while waiting; True goes on to the next step at once.
        """
        self._start_at = float("inf")
        if not self._process:
            return
        if not (self._ends_after(signal.SIGTERM, hurry) or self._ends_after(signal.SIGTERM, hurry)):
            self._say(f"{self._name} does not end: it is killed")
            process.kill_tree(self._process.pid)
            self._process.wait()
        self._sweep()

    def _ends_after(self, number: signal.Signals, hurry: Callable[[], bool]) -> bool:
        assert self._process
        self._process.send_signal(number)
        deadline = time.monotonic() + _STEP
        while self._process.poll() is None:
            if time.monotonic() > deadline or hurry():
                return False
            time.sleep(_POLL)
        return True

    def _on_ended(self, status: int) -> None:
        self._sweep()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        if status in _HOPELESS:
            self._say(f"{self._name} {how}: it starts again when a source below {self._folder} changes")
            return
        if time.monotonic() - self._started_at > _STABLE:
            self._delay = _FIRST_DELAY
        self._say(f"{self._name} {how}: it starts again in {self._delay:g} s, or when a source changes")
        self._start_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LAST_DELAY)

    def _sweep(self) -> None:
        """It has ended; so does whatever it left behind."""
        assert self._process
        process.kill_session(self._process.pid)
        self._process = None


def _named(files: Sequence[Path]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
