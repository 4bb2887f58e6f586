"""A private RabbitMQ node: no root, no system service, ports of its own, all files in one folder.

The node goes on after the command that started it. Later commands find it through its folder: the file `pid` has the
process id, and the argument `NodeFolder.marker` on the command line proves that the process is this node. Environment
and readiness: see https://www.rabbitmq.com/docs/configure and `NodeFolder.environment`.
"""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from signal import SIGTERM
from typing import Final

from crew.cli import process
from crew.cli.broker import epmd, rabbitmq
from crew.cli.broker.node_folder import NODE_NAME, NodeFolder
from crew.errors import CrewError
from crew.settings import PRIVATE_NODE_URL

_AMQP_HEADER: Final = b"AMQP\x00\x00\x09\x01"  # a client's first bytes, AMQP 0-9-1 §4.2.2
_AMQP_START: Final = b"\x01"  # the type of the first frame from a broker that is ready
_POLL: Final = 0.05  # seconds
# The shell starts the node in the background and exits at once: init adopts the node, so it never becomes our zombie.
_LAUNCH: Final = 'umask 077; "$0" </dev/null >"$1" 2>&1 & echo $!'


class Status(Enum):
    """State of a private node."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"


class _NoDistribution(CrewError):
    """Erlang could not reach the epmd that it had just started, as happens on a busy machine: start it once more."""


class Node:
    """A private RabbitMQ node.

    Args:
        folder: of its data, settings and logs; default `.crew/broker` below the working directory, where clients and
            workers search for its URL.
        conf: additional lines of rabbitmq.conf, read at the next start.
        name, is_alone: see NodeFolder; for the members of a cluster.
    """

    def __init__(
        self,
        folder: Path = PRIVATE_NODE_URL.parent,
        *,
        conf: Sequence[str] = (),
        name: str = NODE_NAME,
        is_alone: bool = True,
    ) -> None:
        self._folder = NodeFolder(folder, name=name, is_alone=is_alone)
        self._conf = tuple(conf)

    def __repr__(self) -> str:
        return f"<Node {self._folder.path} {f'process {self.pid}' if self.pid else 'stopped'}>"

    @property
    def url(self) -> str:
        """The AMQP URL, with the password.

        Raises:
            CrewError: the node has never been started.
        """
        if not self._folder.ports_file.exists():
            raise CrewError(f"no broker was ever started in {self._folder.path}: run `crew broker start` there")
        return self._folder.url

    @property
    def pid(self) -> int | None:
        """Process id of the node, or None if it is not running."""
        pid = self._folder.pid
        return pid if pid is not None and self._folder.marker in process.command_line(pid) else None

    @property
    def status(self) -> Status:
        """Whether the node runs and accepts connections."""
        if self.pid is None:
            return Status.STOPPED
        return Status.RUNNING if self._is_ready() else Status.STARTING

    def start(self, timeout: float = 60.0, *, is_canceled: Callable[[], bool] = lambda: False) -> bool:
        """Start the node if it is not running, and wait until it accepts connections.

        Args:
            timeout: seconds until the node must accept connections.
            is_canceled: polled while waiting; True stops the node and raises CrewError.

        Returns:
            Whether this call started the node.

        Raises:
            SettingsError: RabbitMQ is not installed, or a port is in use.
            CrewError: the node exited, or did not accept connections in time.
        """
        server = rabbitmq.program("rabbitmq-server")
        with self._folder.locked():
            pid = self.pid
            started = pid is None
            try:
                pid = pid or self._launch(server)
                try:
                    self._wait_until_ready(pid, timeout, is_canceled)
                except _NoDistribution:
                    self._end(pid, 0)
                    pid = self._launch(server)
                    self._wait_until_ready(pid, timeout, is_canceled)
            except BaseException:
                if started and pid:
                    self._end(pid, 0)
                raise
            self._folder.write_url()
        return started

    def stop(self, timeout: float = 20.0) -> bool:
        """Stop the node and its epmd, with all their processes. Persistent messages remain for the next start.

        Args:
            timeout: seconds until the node is killed.

        Returns:
            Whether the node was running.
        """
        if not self._folder.path.exists():
            return False
        with self._folder.locked():
            pid = self.pid
            self._end(pid, timeout)
        return pid is not None

    def kill(self) -> None:
        """Kill the node as a crash would, for tests; its epmd and the file with its URL remain."""
        if pid := self.pid:
            process.kill_tree(pid)
            process.ended_within(pid, 5)

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `rabbitmqctl` on this node and return its output: `node.ctl("list_queues", "name", "messages")`.

        Raises:
            CrewError: rabbitmqctl failed, or took longer than `timeout` seconds.
        """
        command = [str(rabbitmq.program("rabbitmqctl")), "--quiet", *arguments]
        try:
            done = subprocess.run(
                command, env=self._folder.environment(), capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise CrewError(f"rabbitmqctl {arguments[0]}: timeout after {timeout:g} s") from None
        if done.returncode:
            first = (done.stderr or done.stdout).strip().split("\n\n")[0]  # after that it prints its usage at length
            raise CrewError(f"rabbitmqctl {arguments[0]} failed: {' '.join(first.split())}")
        return done.stdout

    def _launch(self, server: Path) -> int:
        """Start the process and return its id, without waiting for it."""
        self._folder.prepare(self._conf)
        if self._folder.is_alone:
            epmd.stop(self._folder.ports.epmd)  # may still run after a crash of the node
        self._folder.check_ports()
        shell = subprocess.run(
            ["/bin/sh", "-c", _LAUNCH, str(server), str(self._folder.output_file)],
            env=self._folder.environment(),
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in this terminal must not reach it
            check=True,
        )
        pid = int(shell.stdout)
        self._folder.write_pid(pid)
        return pid

    def _wait_until_ready(self, pid: int, timeout: float, is_canceled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if process.has_ended(pid):
                kind = _NoDistribution if "nodistribution" in self._output() else CrewError
                raise kind(f"RabbitMQ exited while it started: {self._failure_reason()}")
            if time.monotonic() > deadline:
                raise CrewError(
                    f"RabbitMQ start timeout: it accepted no connection within {timeout:g} s; its log is in "
                    f"{self._folder.path / 'log'}"
                )
            if is_canceled():
                raise CrewError("RabbitMQ start canceled")
            time.sleep(_POLL)

    def _is_ready(self) -> bool:
        """Whether the node answers an AMQP handshake: its AMQP port is the last thing that RabbitMQ opens."""
        try:
            with socket.create_connection(("127.0.0.1", self._folder.ports.amqp), timeout=5) as connection:
                connection.sendall(_AMQP_HEADER)
                return connection.recv(1) == _AMQP_START
        except OSError:
            return False

    def _end(self, pid: int | None, timeout: float) -> None:
        """Stop the process, then epmd, which refuses while the node is registered; then delete the files about them."""
        if pid:
            process.send(pid, SIGTERM)
            if not process.ended_within(pid, timeout):
                process.kill_tree(pid)
                process.ended_within(pid, 5)
        if self._folder.is_alone and self._folder.ports_file.exists():
            epmd.stop(self._folder.ports.epmd)
        self._folder.url_file.unlink(missing_ok=True)
        self._folder.pid_file.unlink(missing_ok=True)

    def _output(self) -> str:
        try:
            return self._folder.read(self._folder.output_file.name)
        except OSError:
            return ""

    def _failure_reason(self) -> str:
        """Why the node exited: the first errors that it wrote, without Erlang's long reports."""
        text = self._output()
        before_report = re.split(r"(?:supervisor|crasher): ", text)[0]
        errors = re.findall(r"\[error\] <[\d.]+> *(?:- )?(.*\w.*)", before_report)
        reasons = [line for line in errors if line != "BOOT FAILED"][:3] or text.split("\n")[-3:]
        return "; ".join(filter(None, reasons)) or f"no error in its output ({self._folder.output_file})"
