"""The servers of one run: a private RabbitMQ node, and Redis and NATS for those systems that need them."""

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from crew.cli.broker.node import Node

START_TIMEOUT: Final = 20.0  # seconds
STOP_TIMEOUT: Final = 10.0  # seconds
POLL: Final = 0.05  # seconds
PROGRAMS: Final = {
    "redis": ("redis-server", "--bind", "127.0.0.1", "--save", "", "--port"),
    "nats": ("nats-server", "--addr", "127.0.0.1", "--port"),
}


class Servers:
    """Starts each server when its address is asked for first; all of them listen on loopback only.

    Args:
        folder: for their data.
        stack: stops them at its end.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._started: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
        self._node = Node(folder / "rabbitmq")
        stack.callback(self._node.stop)
        self._node.start()

    @property
    def amqp_url(self) -> str:
        """URL of the RabbitMQ node."""
        return self._node.url

    @property
    def rabbitmq_version(self) -> str:
        """The version of the node."""
        return self._node.ctl("version").strip()

    def has(self, name: str) -> bool:
        """Whether the server is installed; the name "" means that none is needed."""
        return not name or shutil.which(PROGRAMS[name][0]) is not None

    def address(self, name: str) -> str:
        """HOST:PORT of a running server; for "", of a port that is free now, for a worker that listens itself."""
        if not name:
            return f"127.0.0.1:{_free_port()}"
        if name not in self._started:
            self._started[name] = self._start(name)
        return self._started[name][1]

    def pids(self, name: str) -> tuple[int, ...]:
        """Process id of a server: "rabbitmq", or one that has been started."""
        if name == "rabbitmq":
            return () if self._node.pid is None else (self._node.pid,)
        return (self._started[name][0].pid,) if name else ()

    def _start(self, name: str) -> tuple[subprocess.Popen[bytes], str]:
        port = _free_port()
        command, silent = [*PROGRAMS[name], str(port)], subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=self._folder, stdout=silent, stderr=silent)
        self._stack.callback(_stop, process)
        end = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"{PROGRAMS[name][0]} did not start on port {port}") from None
                time.sleep(POLL)
            else:
                return process, f"127.0.0.1:{port}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
