"""Starts programs in the server of this package, and waits for their ends as `subprocess.Popen` does."""

import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

POLL: Final = 0.01  # seconds
SERVER: Final = Path(__file__).with_name("server.py")
# The interpreter, or the loader of programs, reads them when it starts: a fork cannot follow a change.
READ_AT_START: Final = ("PYTHON", "LD_", "LC_", "LANG")


class Server:
    """The process that forks; started when the first program is.

    Args:
        environment: of the server.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER)], stdin=its.fileno(), env=environment, start_new_session=True, cwd="/"
            )
        self._socket = ours
        self._lock = threading.Lock()

    def start(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        streams: Sequence[BinaryIO],
        comm: str,
    ) -> int:
        """Fork, and run `python *arguments` there with these standard streams; returns the pid."""
        request = {"arguments": arguments, "environment": dict(environment), "folder": str(folder), "comm": comm}
        return int(str(self._ask(request, *(stream.fileno() for stream in streams))))

    def exit_status(self, pid: int) -> int | None:
        """The exit status of a program as in `subprocess`; None while it runs."""
        status = self._ask({"ended": pid})
        return None if status is None else int(str(status))

    def _ask(self, request: object, *descriptors: int) -> object:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            return json.loads(self._socket.recv(100))


class Forked:
    """A program that the server runs, with what tests use of `subprocess.Popen`."""

    def __init__(self, server: Server, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status; None while the program runs."""
        if self.returncode is None:
            self.returncode = self._server.exit_status(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the exit status.

        Raises:
            subprocess.TimeoutExpired: the program still runs after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(POLL)
        return status


@functools.cache
def _server() -> Server:
    return Server({**os.environ, "PYTHONUNBUFFERED": "1"})


def started(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    streams: tuple[BinaryIO, BinaryIO, BinaryIO],
    comm: str,
) -> Forked | None:
    """Start `command` as a fork with these standard streams; None if it needs an interpreter of its own.

    That is so for another program than our interpreter, for its options, and for other variables that it reads when it
    starts than those of the server; and on other systems than Linux.
    """
    program, *arguments = command
    if sys.platform != "linux" or program != sys.executable or not _is_program(arguments):
        return None
    read_at_start = _read_at_start(environment)
    if read_at_start != {**_read_at_start(os.environ), "PYTHONUNBUFFERED": "1"} or _is_measured(environment):
        return None
    server = _server()
    return Forked(server, server.start(arguments, environment=environment, folder=folder, streams=streams, comm=comm))


def _is_program(arguments: Sequence[str]) -> bool:
    """Whether these arguments of an interpreter begin with a script or `-m crew`."""
    return arguments[:2] == ["-m", "crew"] or (arguments[:1] != [] and arguments[0].endswith(".py"))


def _is_measured(environment: Mapping[str, str]) -> bool:
    """Whether coverage measures each new interpreter, as pytest-cov lets it: it would not measure a fork."""
    return any(key.startswith("COVERAGE_") for key in environment)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith(READ_AT_START)}
