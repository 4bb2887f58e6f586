"""The benchmark suite: crew beside bare pika and beside other systems, in one interleaved run.

    PYTHONPATH=benchmarks python -m suite [--rounds N] [--seconds S] [--burst N] [--system TEXT]... [--json FILE]

It starts a private broker, and Redis and NATS for those systems that need them. Each system has one client process and
one worker process. All systems take turns in every round. Prints the report as Markdown, and writes all figures to a
JSON file. A system that fails is left out, with a line on stderr; crew and bare pika must not fail.
"""

import contextlib
import importlib.metadata
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from peers import PEERS
from suite.figures import single, turn
from suite.report import Results, markdown
from suite.servers import Servers
from suite.systems import System, start_all, version

ROOT: Final = Path(__file__).parents[2]
JSON: Final = ROOT / "build" / "bench.json"
WARM_UP: Final = 1.0  # seconds
IN_FLIGHT: Final = 64
IDLE: Final = 3.0  # seconds without a call before the memory is read


@click.command(help="Measure crew, bare pika and the installed systems of `make bench-peers`; print Markdown.")
@click.option("--rounds", default=7, show_default=True, help="Turns of each system.")
@click.option("--seconds", default=0.7, show_default=True, help="Length of one measurement; a turn has up to five.")
@click.option("--burst", default=10_000, show_default=True, help="Calls at once, in the last part.")
@click.option("--system", "names", multiple=True, help="Only systems with this in their name; may be repeated.")
@click.option("--json", "file", default=JSON, show_default=True, type=Path, help="File for all figures.")
def main(rounds: int, seconds: float, burst: int, names: tuple[str, ...], file: Path) -> None:
    """Measure, and report."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is stopped
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench-"))
        )  # /tmp may be memory
        servers = Servers(folder, stack)
        heading = f"{when()} {where(servers)}"
        results = measure(start_all(servers, stack, names), rounds, seconds, burst)
    print(markdown(results, heading))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode({"heading": heading, "results": results})))


def measure(systems: Sequence[System], rounds: int, seconds: float, burst: int) -> Results:
    """All systems take turns, in an order that changes with each round; then each makes its bursts."""
    results = Results(burst)
    failed: set[str] = set()

    def each(some: Sequence[System], step: Callable[[System], None]) -> None:
        for system in some:
            if system.name in failed:
                continue
            try:
                step(system)
            except (RuntimeError, OSError, TimeoutError) as error:
                if not system.is_peer:
                    raise
                failed.add(system.name)
                results.turns.pop(system.name, None)
                print(f"{system.name} failed, and is left out: {error!r}", file=sys.stderr, flush=True)

    results.turns = {system.name: [] for system in systems}
    each(systems, lambda system: _discard(system.client.order(WARM_UP, IN_FLIGHT)))
    for number in range(1, rounds + 1):
        order = systems if number % 2 else systems[::-1]
        each(order, lambda system: results.turns[system.name].append(turn(system, seconds)))
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    time.sleep(IDLE)
    each(systems, lambda system: results.singles.update({system.name: single(system, burst)}))
    return results


def _discard(_: object) -> None:
    """For a step whose result is of no interest."""


def when() -> str:
    """Date, command and commit, as each figure in a document has them."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    return f"Measured on {time.strftime('%Y-%m-%d')} with `make bench` at commit {commit.stdout.strip() or 'unknown'}."


def where(servers: Servers) -> str:
    """Machine and versions."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    load, _, _ = os.getloadavg()
    versions = [
        f"Python {platform.python_version()}",
        f"RabbitMQ {servers.rabbitmq_version}",
        f"pika {importlib.metadata.version('pika')}",
        *(f"{peer.distributions[0]} {version(peer)}" for peer in PEERS if version(peer)),
    ]
    cores = len(os.sched_getaffinity(0))
    return (
        f"Machine: {model[1] if model else platform.machine()}, {cores} cores, {system}, load average at the start "
        f"{load:.1f}. Versions: {', '.join(versions)}."
    )


if __name__ == "__main__":
    main()
