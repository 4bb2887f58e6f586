"""Measures calls with large bodies through crew, compared with the same echo over bare pika: a table in Markdown.

    python benchmarks/bodies.py [--rounds N] [--seconds S] [--in-flight N] [--size BYTES] [--kind KIND]
                                [--rate RATE] [--persistent] [--url URL]

Each system has one client process and one worker process. The systems take turns, and each figure is the median of its
rounds. `--rate 1gbit` puts the broker behind a link of this rate: see `slow_link.py`.
"""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import bodies_client
import click
import msgspec
import payloads
import slow_link
from process import Process
from rpc import private_node

from crew import settings

HEAD = (
    "| payload | bytes | calls/s: crew | pika | ratio | CPU ms a call: crew | pika | latency ms: crew | pika | "
    "worst timer delay ms: crew | pika |\n|" + " --- |" * 11
)


class System(msgspec.Struct):
    """One of the compared systems, with its client and its worker."""

    name: str
    client: Process
    worker: Process

    def measure(self, order: bodies_client.Order) -> "Figures":
        """Carry out `order`."""
        cpu = self.worker.cpu()
        measured = cast(bodies_client.Measurement, self.client.request(order))
        return Figures(
            rate=measured["calls"] / measured["seconds"],
            cpu=(measured["cpu"] + self.worker.cpu() - cpu) / measured["calls"],
            late=measured["late"],
            p50=measured["p50"],
        )


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Calls a second; seconds: CPU of client and worker for a call, longest delay of a timer, median latency."""

    rate: float
    cpu: float
    late: float
    p50: float


@click.command(help="Measure calls with large bodies through crew, compared with bare pika; print a table.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each system for each row.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one measurement.")
@click.option("--in-flight", default=8, show_default=True, help="Calls in flight.")
@click.option("--size", "sizes", multiple=True, type=int, help="Bytes of a payload as JSON; default: 100 kB, 1 MB.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*payloads.KINDS]), help="Default: all kinds.")
@click.option("--rate", help="Rate of the link to the broker, as tc reads it: 1gbit. Needs root and Linux.")
@click.option("--persistent", is_flag=True, help="Make crew's calls persistent; those of the floor stay transient.")
@click.option("--url", help="AMQP URL; default: a private node.")
def main(
    rounds: int,
    seconds: float,
    in_flight: int,
    sizes: tuple[int, ...],
    kinds: tuple[str, ...],
    rate: str | None,
    persistent: bool,
    url: str | None,
) -> None:
    """Compare crew with the floor."""
    if rate:
        slow_link.enter()  # before any thread or connection
    with broker(url, rate) as found, contextlib.ExitStack() as stack:
        systems = [start_floor(found, stack), start_crew(found, stack, persistent=persistent)]
        print(HEAD, flush=True)
        for size in sizes or (100_000, 1_000_000):
            for kind in kinds or payloads.KINDS:
                order = bodies_client.Order(kind=kind, size=size, seconds=seconds, in_flight=in_flight)
                print(row(order, systems, rounds), flush=True)


def row(order: bodies_client.Order, systems: list[System], rounds: int) -> str:
    """Measure one kind and size; return its line of the table."""
    turns: list[list[Figures]] = []
    for turn in range(rounds):
        measured = [system.measure(order) for system in (systems if turn % 2 == 0 else systems[::-1])]
        turns.append(measured if turn % 2 == 0 else measured[::-1])
    of_floor, of_crew = (list(figures) for figures in zip(*turns, strict=True))
    ratio = statistics.median(crew.rate / bare.rate for bare, crew in turns)
    cells = [
        order["kind"],
        f"{order['size']:,}",
        f"{_median(of_crew, 'rate'):.1f}",
        f"{_median(of_floor, 'rate'):.1f}",
        f"{ratio:.2f}",
        *(f"{_median(figures, name) * 1000:.1f}" for name in ("cpu", "p50") for figures in (of_crew, of_floor)),
        *(f"{max(one.late for one in figures) * 1000:.0f}" for figures in (of_crew, of_floor)),
    ]
    return "| " + " | ".join(cells) + " |"


def _median(figures: list[Figures], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in figures))


def start_floor(url: str, stack: contextlib.ExitStack) -> System:
    """Start the worker and the client over bare pika."""
    worker = start(stack, Process("floor.py", "worker", url=url))
    worker.wait_ready()
    client = start(stack, Process("bodies_client.py", "floor", url=url))
    client.wait_ready()
    return System("floor", client, worker)


def start_crew(url: str, stack: contextlib.ExitStack, *, persistent: bool) -> System:
    """Start crew's worker and client; the client is ready when the worker serves."""
    worker = start(stack, Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=url))
    client = start(stack, Process("bodies_client.py", "crew", *["--persistent"] * persistent, url=url))
    client.wait_ready()
    return System("crew", client, worker)


def start(stack: contextlib.ExitStack, process: Process) -> Process:
    """Have `stack` stop the process at its end; returns the process."""
    stack.callback(process.stop)
    return process


@contextlib.contextmanager
def broker(url: str | None, rate: str | None) -> Iterator[str]:
    """The URL of the broker: the given one, else that of a private node, behind a link of this rate."""
    if url:
        yield settings.load(url).urls[0]
        return
    if not rate:
        with private_node() as found:
            yield found
        return
    with tempfile.TemporaryDirectory() as folder, slow_link.broker(Path(folder), rate) as found:
        yield found


if __name__ == "__main__":
    sys.exit(main())
