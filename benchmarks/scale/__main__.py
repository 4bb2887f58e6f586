"""How costs grow with tasks, workers, calls in flight, waiting messages, queues and gateways.

    PYTHONPATH=benchmarks python -m scale [--part NAME]... [--point N]... [--rounds N] [--seconds S] [--json FILE]

Each part has a private broker of its own, in a temporary folder. Prints a table for each curve as Markdown, and writes
all figures to a JSON file. `CREW_RABBITMQ` chooses another RabbitMQ.
"""

import importlib
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click
from scale.broker import ROOT, version
from scale.curve import Curve
from scale.options import Options
from scale.report import LEGEND, markdown, write

JSON: Final = ROOT / "build" / "scale.json"
PARTS: Final = ("tasks", "workers", "in_flight", "depth", "levels", "restart", "reconnect", "gateways", "jobs")


@click.command(help="Measure how costs grow; print Markdown.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this part; may be repeated.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each point.")
@click.option("--seconds", default=0.7, show_default=True, help="Length of one measurement.")
@click.option("--point", "only", multiple=True, type=int, help="Only this point of a curve; may be repeated.")
@click.option("--json", "file", default=JSON, show_default=True, type=Path, help="File for all figures.")
def main(parts: tuple[str, ...], rounds: int, seconds: float, only: tuple[int, ...], file: Path) -> None:
    """Measure the parts one after another, and report each when it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is stopped
    options = Options(rounds=rounds, seconds=seconds, only=only)
    heading = where()
    print(f"{heading} Medians of {rounds} round{'s' * (rounds != 1)}. {LEGEND}\n", flush=True)
    curves: list[Curve] = []
    for part in PARTS:
        if parts and part not in parts:
            continue
        load, _, _ = os.getloadavg()
        began = time.monotonic()
        curves += (measured := importlib.import_module(f"scale.{part}").measure(options))
        print(*map(markdown, measured), sep="\n\n", end="\n\n")
        print(f"Load average before this part {load:.1f}; it took {time.monotonic() - began:.0f} s.\n", flush=True)
        write(file, heading, curves)


def where() -> str:
    """Date, commit, machine and versions."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    return (
        f"Measured on {time.strftime('%Y-%m-%d')} with `make bench-scale` at commit "
        f"{commit.stdout.strip() or 'unknown'}, {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, RabbitMQ {version()}."
    )


if __name__ == "__main__":
    main()
