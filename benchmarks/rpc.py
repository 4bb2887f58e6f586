"""Measures the cost of a call through crew, compared with the same echo over bare pika.

    python benchmarks/rpc.py [--rounds N] [--seconds S] [--in-flight N] [--url URL] [--profile transient|persistent]

Transient calls are compared with the transient floor, and persistent ones, crew's default, with the persistent floor
(`floor.py`). Each system has one client process and one worker process; crew's two clients share a worker. The systems
take turns in every round, and turns of one round are compared, because the speed of a machine drifts by more than the
measured difference. Trust the ratios: they are medians over the rounds. The exit status is 0 if the goals are met,
else 1.
"""

import contextlib
import pstats
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from process import Process
from report import CALLS_PER_SECOND, P50, Figures, Goal, ratio, table

from crew import settings
from crew.client.blocking import Client as BlockingClient

IDLE = 3.0  # seconds without a call before the memory is read
WARM_UP = 1.0  # seconds
PROFILE_LINES = 25
KINDS = ("transient", "persistent")
FLOOR, CREW = "floor", "crew"
FLOOR_PERSISTENT, CREW_PERSISTENT = "floor (p.)", "crew (p.)"  # persistent
RATIOS = ((CREW, FLOOR), (CREW_PERSISTENT, FLOOR_PERSISTENT), (CREW_PERSISTENT, CREW), (CREW_PERSISTENT, FLOOR))


class System(msgspec.Struct):
    """One of the compared systems.

    Attributes:
        figures: one entry for each round.
    """

    name: str
    client: Process
    worker: Process
    figures: list[Figures] = []

    def load(self, seconds: float, in_flight: int) -> Figures:
        """Put the system under load for some seconds."""
        worker_cpu = self.worker.cpu()
        measured = self.client.order(seconds, in_flight)
        return Figures(
            calls_per_second=measured["calls"] / measured["seconds"],
            client_cpu=measured["cpu"] / measured["calls"],
            worker_cpu=(self.worker.cpu() - worker_cpu) / measured["calls"],
            p50=measured["p50"],
            p99=measured["p99"],
        )


@click.command(
    help="Measure calls per second and latency of crew, compared with bare pika; print a table and the goals."
)
@click.option("--rounds", default=10, show_default=True, help="Turns of each system.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of one measurement; a turn has two.")
@click.option("--in-flight", default=64, show_default=True, help="Calls in flight when throughput is measured.")
@click.option("--url", help="AMQP URL; default: crew's default, else a private node.")
@click.option("--profile", type=click.Choice(KINDS), help="Also profile calls of this kind: client and I/O thread.")
def main(rounds: int, seconds: float, in_flight: int, url: str | None, profile: str | None) -> None:
    """Compare crew with the floors."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the children are stopped
    with broker(url) as found, contextlib.ExitStack() as stack:
        systems = start_systems(found, stack)
        for system in systems:
            system.client.order(WARM_UP, in_flight)
        for turn in range(rounds):
            measure(systems if turn % 2 == 0 else systems[::-1], seconds, in_flight)
        time.sleep(IDLE)
        goals = report(systems)
        stack.close()
        if profile:
            print_profiles(found, seconds, in_flight, persistent=profile == "persistent")
    sys.exit(0 if all(goal.is_met for goal in goals) else 1)


def start_systems(url: str, stack: contextlib.ExitStack) -> list[System]:
    """Start the floors, crew's worker and its two clients; each system of crew stands beside its floor."""
    floor, floor_persistent = (start_floor(url, stack, persistent=persistent) for persistent in (False, True))
    crew = start_crew(url, stack, persistent=False)
    client = start(stack, Process("echo_client.py", "--persistent", url=url))
    client.wait_ready()
    return [floor, crew, floor_persistent, System(CREW_PERSISTENT, client, crew.worker)]


def measure(systems: list[System], seconds: float, in_flight: int) -> None:
    """Run one round: throughput of each system with many calls in flight, then latency with one call."""
    many = [system.load(seconds, in_flight) for system in systems]
    for system, with_many in zip(systems, many, strict=True):
        with_one = system.load(seconds, 1)
        system.figures.append(msgspec.structs.replace(with_many, p50=with_one.p50, p99=with_one.p99))


def start_floor(url: str, stack: contextlib.ExitStack, *, persistent: bool = False) -> System:
    """Start the worker and the client over bare pika."""
    flags = ["--persistent"] * persistent
    worker = start(stack, Process("floor.py", "worker", *flags, url=url))
    worker.wait_ready()
    client = start(stack, Process("floor.py", "client", *flags, url=url))
    client.wait_ready()
    return System(FLOOR_PERSISTENT if persistent else FLOOR, client, worker)


def start_crew(url: str, stack: contextlib.ExitStack, *, persistent: bool, profile: str = "") -> System:
    """Start crew's worker and client; the client is ready when the worker serves."""
    worker = start(
        stack, Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=url, profile=profile)
    )
    client = start(stack, Process("echo_client.py", *["--persistent"] * persistent, url=url))
    client.wait_ready()
    return System(CREW_PERSISTENT if persistent else CREW, client, worker)


def start(stack: contextlib.ExitStack, process: Process) -> Process:
    """Have `stack` stop the process at its end; returns the process."""
    stack.callback(process.stop)
    return process


def report(systems: list[System]) -> list[Goal]:
    """Print the table; return the goals."""
    figures = {system.name: system.figures for system in systems}
    memory = {system.name: system.worker.memory() for system in systems}
    goals = [
        Goal("throughput, crew/floor", ratio(figures, (CREW, FLOOR), CALLS_PER_SECOND), at_least=0.80),
        Goal("p50 latency, crew/floor", ratio(figures, (CREW, FLOOR), P50), at_most=1.25),
        Goal("RSS of an idle worker process, MiB", memory[CREW].rss, at_most=32),
    ]
    print(table(figures, memory, RATIOS))
    print(*goals, sep="\n", flush=True)
    return goals


def print_profiles(url: str, seconds: float, in_flight: int, *, persistent: bool) -> None:
    """Run crew once more with cProfile, which slows it to about a third, and print the profiles."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        of_client, of_worker = f"{folder}/client", f"{folder}/worker"
        crew = start_crew(url, stack, persistent=persistent, profile=of_worker)
        crew.client.order(seconds, in_flight, of_client)
        with BlockingClient(url) as client:
            client.call("benchmark.profile").result(timeout=10)
        for title, file in {"client": of_client, "worker, I/O thread": of_worker}.items():
            print(f"\n--- crew's {title}, {in_flight} in flight; the time in poll is waiting time")
            pstats.Stats(file).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)


@contextlib.contextmanager
def broker(url: str | None) -> Iterator[str]:
    """The URL of a reachable broker: the given one, crew's default, or a private node."""
    found = settings.load(url).urls[0]
    if is_reachable(found):
        yield found
        return
    if url:
        raise click.ClickException(f"no broker is reachable at {settings.redacted((found,))}")
    with private_node() as own:
        yield own


@contextlib.contextmanager
def private_node() -> Iterator[str]:
    """The URL of a private node, which stops at the end of the block."""
    from crew.cli.broker.node import Node

    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        node.start()
        try:
            yield node.url
        finally:
            node.stop()


def is_reachable(url: str) -> bool:
    """Whether a program listens at the address of `url`."""
    split = urlsplit(url)
    try:
        socket.create_connection((split.hostname, split.port), timeout=2).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
