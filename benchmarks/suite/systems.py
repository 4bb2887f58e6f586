"""The compared systems: how each is started, and the processes whose CPU time and memory count."""

import contextlib
import functools
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from peers import PEERS, Peer
from process import FOLDER, Process, cpu_of, descendants_of
from suite.servers import Servers

PYTHON: Final = FOLDER.parent / ".venv-peers" / "bin" / "python"
PROBE: Final = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
PIKA, PIKA_PERSISTENT = "pika, transient", "pika, persistent"
CREW, CREW_PERSISTENT = "crew, transient", "crew, default"


class System(msgspec.Struct, frozen=True):
    """A running system.

    Attributes:
        servers: process ids of its broker, or of several servers; none if the client talks to the worker.
        has_mixin: whether its client has handlers with a mixin.
    """

    name: str
    client: Process
    worker: Process
    servers: tuple[int, ...]
    has_mixin: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether it is neither crew nor bare pika."""
        return self.name in {peer.name for peer in PEERS}

    def server_cpu(self) -> float:
        """CPU seconds that its servers have used."""
        return sum(cpu_of(pid) for server in self.servers for pid in (server, *descendants_of(server)))


def start_all(servers: Servers, stack: contextlib.ExitStack, names: Sequence[str]) -> list[System]:
    """Start the systems that are installed, in the order of the columns; `stack` stops them.

    Args:
        names: parts of the names of the systems; empty means all.
    """

    @functools.cache
    def crew_worker() -> Process:
        worker = Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=servers.amqp_url)
        return _started(stack, worker)

    starters: dict[str, Callable[[], System]] = {
        PIKA: lambda: start_floor(servers, stack, persistent=False),
        PIKA_PERSISTENT: lambda: start_floor(servers, stack, persistent=True),
        CREW: lambda: start_crew(servers, stack, crew_worker(), persistent=False),
        CREW_PERSISTENT: lambda: start_crew(servers, stack, crew_worker(), persistent=True),
    }
    for peer in PEERS:
        if version(peer) and servers.has(peer.server):
            starters[peer.name] = lambda peer=peer: start_peer(peer, servers, stack)  # type: ignore[misc]
    wanted = [name for name in starters if not names or any(part.lower() in name.lower() for part in names)]
    systems = []
    for name in wanted:
        try:
            systems.append(starters[name]())
        except RuntimeError as error:
            if name in (PIKA, PIKA_PERSISTENT, CREW, CREW_PERSISTENT):
                raise
            print(f"{name} failed, and is left out: {error}", file=sys.stderr, flush=True)
    return systems


@functools.cache
def version(peer: Peer) -> str:
    """The version that `make bench-peers` has installed; "" if it is not installed."""
    if not PYTHON.exists():
        return ""
    done = subprocess.run([PYTHON, "-c", PROBE, *peer.distributions], capture_output=True, text=True, check=False)
    return done.stdout.split()[0] if done.returncode == 0 else ""


def start_floor(servers: Servers, stack: contextlib.ExitStack, *, persistent: bool) -> System:
    """Start bare pika: `floor.py`."""
    flags = ["--persistent"] * persistent
    worker = _started(stack, Process("floor.py", "worker", *flags, url=servers.amqp_url), is_ready=True)
    client = _started(stack, Process("floor.py", "client", *flags, url=servers.amqp_url), is_ready=True)
    return System(PIKA_PERSISTENT if persistent else PIKA, client, worker, servers.pids("rabbitmq"))


def start_crew(servers: Servers, stack: contextlib.ExitStack, worker: Process, *, persistent: bool) -> System:
    """Start a client of crew; the worker serves both kinds of calls."""
    flags = ["--persistent"] * persistent
    client = _started(stack, Process("echo_client.py", *flags, url=servers.amqp_url), is_ready=True)
    name = CREW_PERSISTENT if persistent else CREW
    return System(name, client, worker, servers.pids("rabbitmq"), has_mixin=True)


def start_peer(peer: Peer, servers: Servers, stack: contextlib.ExitStack) -> System:
    """Start another system, with the interpreter of its own virtual environment."""

    def start(role: str) -> Process:
        process = Process("-m", peer.module, role, address, url=servers.amqp_url, python=PYTHON, tree=FOLDER)
        return _started(stack, process, is_ready=True)

    address = servers.address(peer.server)
    worker = start("worker")
    client = start("client")
    pids = (*(servers.pids("rabbitmq") if peer.uses_rabbitmq else ()), *servers.pids(peer.server))
    return System(peer.name, client, worker, pids)


def _started(stack: contextlib.ExitStack, process: Process, *, is_ready: bool = False) -> Process:
    """Have `stack` stop the process; wait until it is ready, if it says so."""
    stack.callback(process.stop)
    if is_ready:
        process.wait_ready()
    return process
