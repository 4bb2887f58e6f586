"""Tests the interrupt table: several rows at the same time, but rows that burn CPU one by one."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final

import msgspec

from crew import Client
from tests.support.interrupt_table import async_hangs, hangs
from tests.support.interrupt_table.row import ASYNCIO, BESIDE, FLAGS, MAIN, THREADS, Fate, Row
from tests.support.interrupt_table.trial import Bench, Finding, start_bench, trial
from tests.support.processes import Processes

AT_ONCE: Final = {MAIN: 3, THREADS: 5, ASYNCIO: 2, BESIDE: 1}  # so that no executor takes longer than another
BURNING_AT_ONCE: Final = {MAIN: 1, THREADS: 2, ASYNCIO: 1, BESIDE: 1}  # most of them are rows of threads
ONE_BY_ONE: Final = dict.fromkeys(AT_ONCE, 1)

# An abandoned task goes on. A waiting one does no harm; one that burns CPU must end with its process.
CALM: Final = ("--zombies", "100")
BURNING: Final = ("--zombies", "0")

TIMEOUT: Final = 0.3  # seconds
WITH_TIMEOUT: Final = ("time.sleep", "sum of a range", "asyncio.sleep", "time.sleep that blocks the loop")


class Case(msgspec.Struct, frozen=True):
    """A row in one of its executors; with a `timeout`, or with an expiration alone."""

    executor: str
    row: Row
    timeout: float | None = None

    def __str__(self) -> str:
        return f"{self.row.name}, {self.executor}{'' if self.timeout is None else ', timeout'}"


CASES: Final = [
    Case(executor, row, timeout)
    for row in (*hangs.ROWS, *async_hangs.ROWS)
    for executor in row.fates
    for timeout in ((None, TIMEOUT) if row.name in WITH_TIMEOUT else (None,))
]


def find_all(cases: Iterable[Case], processes: Processes, url: str) -> dict[str, Finding | Exception]:
    """Test `cases`, each once; returns the finding of each by its name, or the exception that prevented the test."""
    return asyncio.run(Table(processes, url).find_all(list(cases)))


class Table:
    """Collects the findings of a run. Arguments as for `find_all`."""

    def __init__(self, processes: Processes, url: str) -> None:
        self._processes = processes
        self._url = url
        self._cores = asyncio.Semaphore()
        self._findings: dict[str, Finding | Exception] = {}

    async def find_all(self, cases: list[Case]) -> dict[str, Finding | Exception]:
        """Test cases that wait or take seconds together; then cases that burn CPU and are measured in milliseconds."""
        alone = [case for case in cases if case.row.burns and case.row.fates[case.executor] is Fate.SEEN]
        together = [case for case in cases if case not in alone]
        calm = [case for case in together if not case.row.burns]
        burning = [case for case in together if case.row.burns]
        async with Client(self._url) as client, asyncio.TaskGroup() as group:
            calmly = group.create_task(self._find_each(client, calm, AT_ONCE))
            burned = group.create_task(self._find_each(client, burning, BURNING_AT_ONCE))
            await calmly
            self._cores.release()  # the second core, as no case is measured in milliseconds now
            await burned
            await self._cores.acquire()
            await self._find_each(client, alone, ONE_BY_ONE)
        return self._findings

    async def _find_each(self, client: Client, cases: list[Case], workers: Mapping[str, int]) -> None:
        """Test `cases` of several executors, each executor with its own workers."""
        await asyncio.gather(*(self._find(client, one, workers[one[0].executor]) for one in by_worker(cases)))

    async def _find(self, client: Client, cases: list[Case], workers: int) -> None:
        """Try `cases`, all of one executor, on as many workers."""
        benches = [
            start_bench(self._processes, cases[0].executor, *flags_for(cases[0]), prefix=f"t{uuid.uuid4().hex[:8]}.")
            for _ in range(workers)
        ]
        await asyncio.gather(*(self._work(client, bench, cases) for bench in benches))

    async def _work(self, client: Client, bench: Bench, cases: list[Case]) -> None:
        """Test the remaining `cases`, one after another."""
        await asyncio.to_thread(bench.process.says, "serving")
        while cases:
            case = cases.pop(0)
            async with self._cores if case.row.burns else contextlib.nullcontext():
                await self._try(client, bench, case)

    async def _try(self, client: Client, bench: Bench, case: Case) -> None:
        try:
            self._findings[str(case)] = await trial(client, bench, case.row, timeout=case.timeout)
        except Exception as error:
            self._findings[str(case)] = error


def flags_for(case: Case) -> tuple[str, ...]:
    """Flags of the worker for `case`."""
    return BURNING if case.row.burns else CALM


def by_worker(cases: list[Case]) -> list[list[Case]]:
    """One list for each executor and kind, in the order of the executors."""
    lists = [
        [case for case in cases if (case.executor, case.row.burns) == kind] for kind in product(FLAGS, (False, True))
    ]
    return [one for one in lists if one]
