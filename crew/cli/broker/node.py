"""A private RabbitMQ node: no root, no system service, nobody else's ports; all of it in one folder.

It runs on after the command that started it, and is found again by its folder: the file `pid` there names the process,
the argument `NodeFolder.marker` on its command line proves that it is the one. Environment and readiness: see
https://www.rabbitmq.com/docs/configure and `NodeFolder.environment`.
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

from crew.cli.broker import epmd, rabbitmq
from crew.cli.broker.node_folder import NODE_NAME, NodeFolder
from crew.cli.dev import process
from crew.errors import CrewError
from crew.settings import PRIVATE_NODE_URL

_AMQP_HEADER: Final = b"AMQP\x00\x00\x09\x01"  # a client's first bytes, AMQP 0-9-1 §4.2.2
_AMQP_START: Final = b"\x01"  # the type of the frame with which a broker that is ready answers
_POLL: Final = 0.05  # seconds
# A background command of a shell that ends at once: no child of ours, so that it is a zombie of nobody's later on.
_LAUNCH: Final = 'umask 077; "$0" </dev/null >"$1" 2>&1 & echo $!'


class Status(Enum):
    """What a private node does."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"


class _NoDistribution(CrewError):
    """Erlang and the epmd that it has just started have missed each other, as on a busy machine: worth a second try."""


class Node:
    """A private RabbitMQ node.

    Args:
        folder: where it keeps everything; default `.crew/broker` below the working directory, where clients and workers
            look for its URL.
        conf: more lines of rabbitmq.conf, read at the next start.
        name, is_alone: as NodeFolder has them, for the members of a cluster.
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
            raise CrewError(f"no broker has ever been started in {self._folder.path}")
        return self._folder.url

    @property
    def pid(self) -> int | None:
        """Process id of the node, or None where it is not alive."""
        pid = self._folder.pid
        return pid if pid is not None and self._folder.marker in process.command_line(pid) else None

    @property
    def status(self) -> Status:
        """Whether the node is alive, and answers."""
        if self.pid is None:
            return Status.STOPPED
        return Status.RUNNING if self._answers() else Status.STARTING

    def start(self, timeout: float = 60.0, *, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Start the node and wait until it answers; do nothing where it does already.

        Args:
            timeout: seconds until it must answer.
            given_up: asked while waiting; once it says True, the node is ended and a CrewError raised.

        Returns:
            Whether it was started by this very call.

        Raises:
            SettingsError: RabbitMQ is not installed, or a port is taken.
            CrewError: the node died, or did not answer in time.
        """
        server = rabbitmq.program("rabbitmq-server")
        with self._folder.locked():
            pid = self.pid
            started = pid is None
            try:
                pid = pid or self._launch(server)
                try:
                    self._await_answer(pid, timeout, given_up)
                except _NoDistribution:
                    self._end(pid, 0)
                    pid = self._launch(server)
                    self._await_answer(pid, timeout, given_up)
            except BaseException:
                if started and pid:
                    self._end(pid, 0)
                raise
            self._folder.write_url()
        return started

    def stop(self, timeout: float = 20.0) -> bool:
        """Stop the node, and its epmd: no process of theirs remains. What was persistent is there at the next start.

        Args:
            timeout: seconds until it is killed.

        Returns:
            Whether there was something to stop.
        """
        if not self._folder.path.exists():
            return False
        with self._folder.locked():
            pid = self.pid
            self._end(pid, timeout)
        return pid is not None

    def kill(self) -> None:
        """End the node as a crash would, for tests; its epmd and its URL stay behind."""
        if pid := self.pid:
            process.kill_tree(pid)
            process.ended_within(pid, 5)

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `rabbitmqctl` on this node and return what it prints: `node.ctl("list_queues", "name", "messages")`.

        Raises:
            CrewError: it failed, or took longer than `timeout` seconds.
        """
        command = [str(rabbitmq.program("rabbitmqctl")), "--quiet", *arguments]
        try:
            done = subprocess.run(
                command, env=self._folder.environment(), capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise CrewError(f"rabbitmqctl {arguments[0]} has not ended after {timeout:g} s") from None
        if done.returncode:
            first = (done.stderr or done.stdout).strip().split("\n\n")[0]  # then it explains its usage at length
            raise CrewError(f"rabbitmqctl {arguments[0]} failed: {' '.join(first.split())}")
        return done.stdout

    def _launch(self, server: Path) -> int:
        """Start the process, and return its id before it has done anything."""
        self._folder.prepare(self._conf)
        if self._folder.is_alone:
            epmd.stop(self._folder.ports.epmd)  # left over from a crash
        self._folder.check_ports()
        shell = subprocess.run(
            ["/bin/sh", "-c", _LAUNCH, str(server), str(self._folder.output_file)],
            env=self._folder.environment(),
            stdout=subprocess.PIPE,
            start_new_session=True,  # the Ctrl-C of this terminal is not meant for it
            check=True,
        )
        pid = int(shell.stdout)
        self._folder.write_pid(pid)
        return pid

    def _await_answer(self, pid: int, timeout: float, given_up: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        while not self._answers():
            if process.has_ended(pid):
                kind = _NoDistribution if "nodistribution" in self._output() else CrewError
                raise kind(f"RabbitMQ ended while it started: {self._last_words()}")
            if time.monotonic() > deadline:
                raise CrewError(
                    f"RabbitMQ did not answer within {timeout:g} s; its log is in {self._folder.path / 'log'}"
                )
            if given_up():
                raise CrewError("RabbitMQ was not waited for")
            time.sleep(_POLL)

    def _answers(self) -> bool:
        """Whether an AMQP handshake begins: the port is the last thing that RabbitMQ opens."""
        try:
            with socket.create_connection(("127.0.0.1", self._folder.ports.amqp), timeout=5) as connection:
                connection.sendall(_AMQP_HEADER)
                return connection.recv(1) == _AMQP_START
        except OSError:
            return False

    def _end(self, pid: int | None, timeout: float) -> None:
        """The process first, then epmd, which refuses while the node is registered; then what points to them."""
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

    def _last_words(self) -> str:
        """Why the node died: the first errors it wrote, up to where Erlang explains itself at length."""
        text = self._output()
        before_report = re.split(r"(?:supervisor|crasher): ", text)[0]
        errors = re.findall(r"\[error\] <[\d.]+> *(?:- )?(.*\w.*)", before_report)
        told = [line for line in errors if line != "BOOT FAILED"][:3] or text.split("\n")[-3:]
        return "; ".join(filter(None, told)) or f"it left no word in {self._folder.output_file}"
