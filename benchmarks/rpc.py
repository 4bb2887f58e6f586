"""What a round trip through crew costs, beside the same echo over bare pika.

    python benchmarks/rpc.py [--rounds N] [--seconds S] [--in-flight N] [--url URL] [--persistent] [--profile]

Each system has one client process and one worker process. They take turns in every round, and each is compared with the
other's turn beside it, because a machine's speed drifts by more than what is measured here: trust the ratios, which are
medians of the rounds'. Ends with 0 where the goals are met, else with 1.
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

IDLE = 3.0  # seconds without a call, before memory is read
WARM_UP = 1.0  # seconds
PROFILE_LINES = 25


class System(msgspec.Struct):
    """One of the two that are compared.

    Attributes:
        figures: one for each round.
    """

    name: str
    client: Process
    worker: Process
    figures: list[Figures] = []

    def load(self, seconds: float, in_flight: int) -> Figures:
        """Let it work for a while."""
        worker_cpu = self.worker.cpu()
        answer = self.client.order(seconds, in_flight)
        return Figures(
            calls_per_second=answer["calls"] / answer["seconds"],
            client_cpu=answer["cpu"] / answer["calls"],
            worker_cpu=(self.worker.cpu() - worker_cpu) / answer["calls"],
            p50=answer["p50"],
            p99=answer["p99"],
        )


@click.command(
    help="Round trips a second and latency of crew, beside bare pika; prints a table and whether the goals are met."
)
@click.option("--rounds", default=10, show_default=True, help="Turns of each system.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of one measurement; a turn has two.")
@click.option("--in-flight", default=64, show_default=True, help="Calls in flight when throughput is measured.")
@click.option("--url", help="AMQP URL; default: as crew finds it, else a private node.")
@click.option("--persistent", is_flag=True, help="Let crew's calls be persistent; the floor's stay transient.")
@click.option("--profile", is_flag=True, help="Show also what costs, in crew's client and in its worker's I/O thread.")
def main(rounds: int, seconds: float, in_flight: int, url: str | None, persistent: bool, profile: bool) -> None:
    """Compare crew with the floor."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no child is left behind
    with broker(url) as found, contextlib.ExitStack() as stack:
        systems = [start_floor(found, stack), start_crew(found, stack, persistent=persistent)]
        for system in systems:
            system.client.order(WARM_UP, in_flight)
        for turn in range(rounds):
            measure(systems if turn % 2 == 0 else systems[::-1], seconds, in_flight)
        time.sleep(IDLE)
        goals = report(systems)
        stack.close()
        if profile:
            print_profiles(found, seconds, in_flight, persistent=persistent)
    sys.exit(0 if all(goal.is_met for goal in goals) else 1)


def measure(systems: list[System], seconds: float, in_flight: int) -> None:
    """One round: throughput of each with many in flight, then latency of each with one."""
    many = [system.load(seconds, in_flight) for system in systems]
    for system, with_many in zip(systems, many, strict=True):
        with_one = system.load(seconds, 1)
        system.figures.append(msgspec.structs.replace(with_many, p50=with_one.p50, p99=with_one.p99))


def start_floor(url: str, stack: contextlib.ExitStack) -> System:
    """Bare pika."""
    worker = start(stack, Process("floor.py", "worker", url=url))
    worker.wait_ready()
    client = start(stack, Process("floor.py", "client", url=url))
    client.wait_ready()
    return System("floor", client, worker)


def start_crew(url: str, stack: contextlib.ExitStack, *, persistent: bool, profile: str = "") -> System:
    """crew; its client says when the worker serves."""
    worker = start(
        stack, Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=url, profile=profile)
    )
    client = start(stack, Process("echo_client.py", *["--persistent"] * persistent, url=url))
    client.wait_ready()
    return System("crew", client, worker)


def start(stack: contextlib.ExitStack, process: Process) -> Process:
    """`process`, which ends with `stack`."""
    stack.callback(process.stop)
    return process


def report(systems: list[System]) -> list[Goal]:
    """Print the table; return the goals."""
    bare, crew = (system.figures for system in systems)
    bare_memory, crew_memory = (system.worker.memory() for system in systems)
    goals = [
        Goal("throughput, crew/floor", ratio(bare, crew, CALLS_PER_SECOND), at_least=0.80),
        Goal("p50 latency, crew/floor", ratio(bare, crew, P50), at_most=1.25),
        Goal("RSS of an idle worker process, MiB", crew_memory.rss, at_most=32),
    ]
    print(table(bare, crew, bare_memory, crew_memory))
    print(*goals, sep="\n", flush=True)
    return goals


def print_profiles(url: str, seconds: float, in_flight: int, *, persistent: bool) -> None:
    """Run crew once more under cProfile, which slows it to about a third, and print where its time goes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        of_client, of_worker = f"{folder}/client", f"{folder}/worker"
        crew = start_crew(url, stack, persistent=persistent, profile=of_worker)
        crew.client.order(seconds, in_flight, of_client)
        with BlockingClient(url) as client:
            client.call("benchmark.profile").result(timeout=10)
        for title, file in {"client": of_client, "worker, I/O thread": of_worker}.items():
            print(f"\n--- crew's {title}, {in_flight} in flight; poll is waiting")
            pstats.Stats(file).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)


@contextlib.contextmanager
def broker(url: str | None) -> Iterator[str]:
    """The URL of a broker that can be reached: the one given, the one that crew finds, or a private node."""
    found = settings.load(url).urls[0]
    if is_reachable(found):
        yield found
        return
    if url:
        raise click.ClickException(f"no broker answers at {settings.redacted((found,))}")
    from crew.cli.broker.node import Node

    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        node.start()
        try:
            yield node.url
        finally:
            node.stop()


def is_reachable(url: str) -> bool:
    """Whether something listens there."""
    split = urlsplit(url)
    try:
        socket.create_connection((split.hostname, split.port), timeout=2).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
