"""Measures how soon a hanging task is interrupted, its caller gets a reply, and the next call is served: a table.

    python benchmarks/interrupt.py [--executor EXECUTOR] [--row TEXT] [--url URL]

The rows are those of `tests/integration/test_interrupt_table.py`, which runs several at the same time. Here they run
one after another. The exit status is 0 if each row has its expected result, else 1.
"""

import asyncio
import signal
import sys
import tempfile
import uuid
from pathlib import Path

import click
from rpc import broker

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `tests`, which has the rows

from crew import Client
from tests.support.interrupt_table.row import FLAGS, Fate
from tests.support.interrupt_table.table import CASES, Case, by_worker, flags_for
from tests.support.interrupt_table.trial import GRACE, ROW_EXPIRATION, Finding, start_bench, trial
from tests.support.processes import Processes, running

LINE = "{:46}{:28}{:>18}{:>10}{:>14}{:>10}"
HEAD = LINE.format("hangs in", "executor", "how the task ended", "seen", "caller", "next call")


@click.command(help="When a task that hangs is interrupted, its caller answered and the next call served; in minutes.")
@click.option("--executor", type=click.Choice(list(FLAGS)), help="Try this executor alone.")
@click.option("--row", default="", help="Try those rows alone that have this in their name.")
@click.option("--url", help="AMQP URL; default: crew's default, else a private node.")
def main(executor: str | None, row: str, url: str | None) -> None:
    """Try the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the children are stopped
    cases = [
        case for case in CASES if executor in (None, case.executor) and row in case.row.name and case.timeout is None
    ]
    with (
        broker(url) as found,
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), {"CREW_AMQP_URL": found}) as processes,
    ):
        print(f"limit {ROW_EXPIRATION:g} s, grace {GRACE:g} s; all times are counted from the limit\n\n{HEAD}")
        is_good = asyncio.run(try_all(cases, processes, found))
    sys.exit(0 if is_good else 1)


async def try_all(cases: list[Case], processes: Processes, url: str) -> bool:
    """Print a line for each case; whether all are as they should be."""
    is_good = True
    async with Client(url) as client:
        for some in by_worker(cases):
            bench = start_bench(processes, some[0].executor, *flags_for(some[0]), prefix=f"b{uuid.uuid4().hex[:8]}.")
            await asyncio.to_thread(bench.process.says, "serving")
            for case in some:
                finding = await trial(client, bench, case.row)
                is_good &= finding.fate is case.row.fates[case.executor]
                print(line(case, finding), flush=True)
            await asyncio.to_thread(bench.process.stop)
    return is_good


def line(case: Case, finding: Finding) -> str:
    """What one case has shown; where several hung, of the last one."""
    seen = max((one.seen for one in finding.hung if one.seen is not None), default=None)
    return LINE.format(
        case.row.name,
        case.executor,
        finding.fate.value + ("" if finding.fate is case.row.fates[case.executor] else " (!)"),
        "-" if seen is None or finding.fate is not Fate.SEEN else f"{seen:.1f} ms",
        f"{max(one.answered for one in finding.hung) * 1000:+.0f} ms",
        f"{finding.served:.2f} s",
    )


if __name__ == "__main__":
    main()
