"""The folder of a private node: its ports, its secrets, its configuration, and the environment made of them."""

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

NODE_NAME: Final = "crew"  # one name for all that stand alone: each has an epmd of its own, so that none meets another
HOST: Final = "localhost"
USER: Final = "crew"
# Below the ports from which Linux (32768) and macOS (49152) serve outgoing connections: those would take ours at times.
PORTS: Final = range(20_000, 32_000)
_LOOPBACK_ONLY: Final = "-kernel inet_dist_use_interface {127,0,0,1}"  # else Erlang's distribution listens everywhere


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The three ports of a node, all on 127.0.0.1.

    Attributes:
        amqp: for clients and workers.
        dist: for Erlang's distribution, over which `rabbitmqctl` speaks.
        epmd: for the daemon that tells `rabbitmqctl` where `dist` is.
    """

    amqp: int
    dist: int
    epmd: int


class NodeFolder:
    """Where a private node lives; whoever can read it can log in to the node, so only its owner can.

    Args:
        name: of the node among those that share its epmd.
        is_alone: whether its epmd, too, is its own; else somebody stops that one who started several nodes.
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
        """An argument on the command line of this folder's node, so that a stale process id is never taken for it."""
        return "-crew_node " + hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]

    @property
    def ports(self) -> Ports:
        """The ports of this node, chosen once, so that whoever is connected finds a restarted node again."""
        text = self._once("ports.json", lambda: msgspec.json.encode(_free_ports()).decode())
        try:
            return msgspec.json.decode(text, type=Ports)
        except msgspec.DecodeError:
            raise SettingsError(f"{self.ports_file} cannot be read: delete it, and start the broker again") from None

    @property
    def url(self) -> str:
        """The AMQP URL of this node, with its password."""
        return f"amqp://{USER}:{self._once('password', _secret)}@127.0.0.1:{self.ports.amqp}/"

    @property
    def pid(self) -> int | None:
        """The process id of the node that was started last; None: there is none."""
        try:
            text = self.read(self.pid_file.name)
        except OSError:
            return None
        return int(text) if text.strip().isdecimal() else None

    def read(self, name: str) -> str:
        """What file `name` holds.

        Raises:
            FileNotFoundError: there is none.
            SettingsError: it, or its folder, belongs to another user or is a link.
        """
        return private_folder.read_text(self.path / name, root=self._root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this folder: one start or stop at a time, also among processes.

        Raises:
            SettingsError: the folder, or something in it, belongs to another user or is a link.
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
        """Write the configuration, with more `lines` of rabbitmq.conf; the first time also ports and secrets."""
        self._once(".erlang.cookie", _secret, mode=0o400)  # Erlang refuses one that others can read
        configuration = [
            f"listeners.tcp.1 = 127.0.0.1:{self.ports.amqp}",
            f"default_user = {USER}",  # in place of guest, which then does not exist
            f"default_pass = {self._once('password', _secret)}",
            "log.file.rotation.size = 10485760",  # bytes
            "log.file.rotation.count = 2",
            *lines,
        ]
        self._write("rabbitmq.conf", "".join(line + "\n" for line in configuration))
        self._write("enabled_plugins", "[].\n")

    def join(self, first: "NodeFolder") -> None:
        """Take over what members of a cluster share: cookie, password, and the epmd of the `first`."""
        for name, mode in ((".erlang.cookie", 0o400), ("password", 0o600)):
            self._write(name, first.read(name), mode=mode)
        ports = msgspec.structs.replace(self.ports, epmd=first.ports.epmd)
        self._write(self.ports_file.name, msgspec.json.encode(ports).decode())

    def check_ports(self) -> None:
        """Raise SettingsError where another program listens on a port of this node."""
        for name, port in msgspec.structs.asdict(self.ports).items():
            if (self.is_alone or name != "epmd") and not _is_free(port):
                raise SettingsError(
                    f"port {port}, kept for the private broker ({name}), is taken by another program: "
                    f"stop that one, or delete {self.ports_file} to have other ports chosen"
                )

    def write_url(self) -> None:
        """Tell clients and workers below the same folder where the node is; they look for it at each start."""
        self._write("url", self.url + "\n")

    def write_pid(self, pid: int) -> None:
        """Keep the process id of the node."""
        self._write(self.pid_file.name, str(pid))

    def environment(self) -> dict[str, str]:
        """All that RabbitMQ's programs are told. Nothing of the caller's own environment can reach them."""
        return {
            "PATH": rabbitmq.search_path(),
            "HOME": str(self.path),  # Erlang's cookie is looked for here
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
            # The system's own configuration in /etc/rabbitmq is meant for the system's own node.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.path / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.path / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.path / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.path / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_LOOPBACK_ONLY} {self.marker}",
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK_ONLY,
            "detached": "1",  # rabbitmq-server then becomes the node instead of a shell that waits for it
        }

    def _once(self, name: str, made: Callable[[], str], *, mode: int = 0o600) -> str:
        """What file `name` holds, or what `made()` returns, kept there from now on."""
        try:
            return self.read(name)
        except FileNotFoundError:
            self._write(name, made(), mode=mode)
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
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what RabbitMQ does: only a listener is in the way
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
