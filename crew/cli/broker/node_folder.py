"""The folder of a private node: its ports, secrets and configuration, and the environment made from them."""

import hashlib
import os
import random
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

import msgspec

from crew import private_folder
from crew.cli.broker import rabbitmq
from crew.errors import SettingsError

NODE_NAME: Final = "crew"  # the same for all single nodes: each has its own epmd, so that the names do not collide
HOST: Final = "localhost"
USER: Final = "crew"
# Below the ephemeral ports of Linux (from 32768) and macOS (from 49152), which outgoing connections may occupy.
PORTS: Final = range(20_000, 32_000)
_LOOPBACK_ONLY: Final = "-kernel inet_dist_use_interface {127,0,0,1}"  # else Erlang listens on all interfaces


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The three ports of a node, all on 127.0.0.1.

    Attributes:
        amqp: for clients and workers.
        dist: for Erlang's distribution, which `rabbitmqctl` uses.
        epmd: for the daemon from which `rabbitmqctl` gets the port `dist`.
    """

    amqp: int
    dist: int
    epmd: int


class NodeFolder:
    """The files of a private node. Their secrets allow a login to the node, so only the owner can read them.

    Args:
        name: of the node among the nodes that share its epmd.
        is_alone: whether the node has its own epmd; else the program that started several nodes must stop theirs.
    """

    def __init__(self, path: Path, *, name: str = NODE_NAME, is_alone: bool = True) -> None:
        self.path = path.absolute()
        self._root = None if private_folder.is_private(self.path) else self.path
        self.node_name = f"{name}@{HOST}"
        self.is_alone = is_alone
        self.url_file = self.path / "url"
        self.pid_file = self.path / "pid"
        self.output_file = self.path / "output"
        self.ports_file = self.path / "ports.json"

    @property
    def marker(self) -> str:
        """An argument on the command line of this folder's node. It proves that a process id is not stale."""
        return "-crew_node " + hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]

    @property
    def ports(self) -> Ports:
        """The ports of this node, chosen once, so that its clients can reconnect after a restart."""
        text = self._once("ports.json", lambda: msgspec.json.encode(_free_ports()).decode())
        try:
            return msgspec.json.decode(text, type=Ports)
        except msgspec.DecodeError:
            raise SettingsError(f"{self.ports_file} is damaged: delete it, and start the broker again") from None

    @property
    def url(self) -> str:
        """The AMQP URL of this node, including the password."""
        return f"amqp://{USER}:{self._once('password', _secret)}@127.0.0.1:{self.ports.amqp}/"

    @property
    def pid(self) -> int | None:
        """The process id of the node that was started last; None if there is none."""
        try:
            text = self.read(self.pid_file.name)
        except OSError:
            return None
        return int(text) if text.strip().isdecimal() else None

    def read(self, name: str) -> str:
        """The text of file `name`.

        Raises:
            FileNotFoundError: the file does not exist.
            SettingsError: the file or its folder belongs to another user or is a link.
        """
        return private_folder.read_text(self.path / name, root=self._root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock this folder: one start or stop at a time, also among processes.

        Raises:
            SettingsError: the folder or an entry in it belongs to another user or is a link.
        """
        lock = self.path / "lock"
        with private_folder.opened(self.path, root=self._root, make=True) as folder:
            private_folder.check_entries(self.path, root=self._root)
            descriptor = private_folder.open_file(lock, folder, os.O_RDWR | os.O_CREAT)
        try:
            flock(descriptor, LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def prepare(self, lines: Sequence[str] = ()) -> None:
        """Write rabbitmq.conf with the additional `lines`; on the first start also create ports and secrets."""
        self._once(".erlang.cookie", _secret, mode=0o400)  # Erlang refuses a cookie that others can read
        configuration = [
            f"listeners.tcp.1 = 127.0.0.1:{self.ports.amqp}",
            f"default_user = {USER}",  # instead of guest, which then does not exist
            f"default_pass = {self._once('password', _secret)}",
            "log.file.rotation.size = 10485760",  # bytes
            "log.file.rotation.count = 2",
            *lines,
        ]
        self._write("rabbitmq.conf", "".join(line + "\n" for line in configuration))
        self._write("enabled_plugins", "[].\n")

    def join(self, first: "NodeFolder") -> None:
        """Copy from `first` what the members of a cluster share: cookie, password and epmd."""
        for name, mode in ((".erlang.cookie", 0o400), ("password", 0o600)):
            self._write(name, first.read(name), mode=mode)
        ports = msgspec.structs.replace(self.ports, epmd=first.ports.epmd)
        self._write(self.ports_file.name, msgspec.json.encode(ports).decode())

    def check_ports(self) -> None:
        """Raise SettingsError if another program listens on a port of this node."""
        for name, port in msgspec.structs.asdict(self.ports).items():
            if (self.is_alone or name != "epmd") and not _is_free(port):
                raise SettingsError(
                    f"port {port} of the private broker ({name}) is in use by another program: stop that program, or "
                    f"delete {self.ports_file} so that other ports are chosen"
                )

    def write_url(self) -> None:
        """Write the file from which clients and workers in the same folder read the address of the broker."""
        self._write("url", self.url + "\n")

    def write_pid(self, pid: int) -> None:
        """Write the process id of the node."""
        self._write(self.pid_file.name, str(pid))

    def environment(self) -> dict[str, str]:
        """The whole environment of RabbitMQ's programs. They inherit nothing from the caller's environment."""
        return {
            "PATH": rabbitmq.search_path(),
            "HOME": str(self.path),  # Erlang reads its cookie from here
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_DIST_PORT": str(self.ports.dist),
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_BYTES": "0",  # no erl_crash.dump in the working directory
            "RABBITMQ_MNESIA_BASE": str(self.path / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.path / "log"),
            "RABBITMQ_PID_FILE": str(self.pid_file),
            # /etc/rabbitmq configures the system's own node, not this one.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.path / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.path / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.path / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.path / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_LOOPBACK_ONLY} {self.marker}",
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK_ONLY,
            "detached": "1",  # rabbitmq-server then execs the node instead of waiting for it in a shell
        }

    def _once(self, name: str, make: Callable[[], str], *, mode: int = 0o600) -> str:
        """The text of file `name`; the first time it is created with the text that `make()` returns."""
        try:
            return self.read(name)
        except FileNotFoundError:
            self._write(name, make(), mode=mode)
            return self.read(name)

    def _write(self, name: str, text: str, *, mode: int = 0o600) -> None:
        private_folder.write_text(self.path / name, text, root=self._root, mode=mode)


def _secret() -> str:
    return secrets.token_hex(24)


def _free_ports() -> Ports:
    amqp, dist, epmd = (port for _, port in zip(range(3), filter(_is_free, random.sample(PORTS, k=1000)), strict=False))
    return Ports(amqp=amqp, dist=dist, epmd=epmd)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as RabbitMQ does: only a listener blocks a port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
