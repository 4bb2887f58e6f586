"""Cost of a job over HTTP against the number of `crew gateway` processes that share one job store (SQLite)."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from keep_alive import KeepAlive
from load import PAYLOAD
from process import Process
from scale.broker import ROOT, Broker, private_broker
from scale.curve import Column, Curve
from scale.options import Options

COUNTS: Final = (1, 2, 4, 8)
LONGER: Final = 3  # a turn is so much longer than one of calls, as jobs are fewer
IN_FLIGHT: Final = 16  # submits, of all gateways together
TASK: Final = "benchmark.empty"
READY_TIMEOUT: Final = 60.0  # seconds
POLL: Final = 0.05  # seconds

RATE: Final = Column("jobs/s, submitted and finished")
GATEWAYS: Final = Column("all gateways, CPU µs a job", is_cost=True)
OTHERS: Final = Column("one gateway without clients, CPU µs a job")
BROKER: Final = Column("broker, CPU µs a job", is_cost=True)


class Gateway:
    """A running gateway."""

    def __init__(self, url: str, database: str) -> None:
        self._process = Process("-m", "crew", "gateway", "--port", "0", "--database", database, url=url)
        self.stop = self._process.stop
        self.cpu = self._process.cpu
        self._address = self._process.line()

    def http(self) -> KeepAlive:
        """A client of it, for the running event loop."""
        return KeepAlive(self._address)


def measure(options: Options) -> list[Curve]:
    """A job store for each number of gateways; all gateways run while the stores take turns."""
    curve = Curve("Gateways with one job store", "gateways", (RATE, GATEWAYS, OTHERS, BROKER))
    with (
        private_broker() as broker,
        tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        worker = Process("jobs_worker.py", "--processes", "1", "--logging", "warning", url=broker.url)
        stack.callback(worker.stop)
        groups: dict[int, list[Gateway]] = {}
        points = options.points(COUNTS)
        for count in points:
            groups[count] = []
            for _ in range(count):
                groups[count].append(Gateway(broker.url, f"sqlite:///{Path(folder) / str(count)}.db"))
                stack.callback(groups[count][-1].stop)
        for group in groups.values():
            asyncio.run(until_ready(group))
        for count in points:
            turn(broker, groups[count], options.seconds)  # opens connections
        for turns in options.turns(points):
            for count in turns:
                curve.add(str(count), turn(broker, groups[count], LONGER * options.seconds))
    return [curve]


async def until_ready(group: Sequence[Gateway]) -> None:
    """Wait until each gateway is ready, and the worker serves."""
    async with asyncio.timeout(READY_TIMEOUT):
        for gateway in group:
            http = gateway.http()
            while (await http.request("GET", "/readyz")).status != 200:
                await asyncio.sleep(POLL)
            while (await http.request("POST", "/jobs/", {"task": TASK, "data": PAYLOAD})).status != 303:
                await asyncio.sleep(POLL)
            await http.close()


def turn(broker: Broker, group: Sequence[Gateway], seconds: float) -> dict[str, float]:
    """Submit jobs to all gateways in turn; then to the first one only, so that the others have no clients."""
    of_gateways, of_broker, began = [one.cpu() for one in group], broker.cpu(), time.perf_counter()
    jobs = asyncio.run(submit(group, seconds))
    took = time.perf_counter() - began
    used = sum(one.cpu() for one in group) - sum(of_gateways)
    figures = {
        RATE.name: jobs / took,
        GATEWAYS.name: used / jobs * 1e6,
        BROKER.name: (broker.cpu() - of_broker) / jobs * 1e6,
    }
    if len(group) > 1:
        before = sum(one.cpu() for one in group[1:])
        jobs = asyncio.run(submit(group[:1], seconds))
        figures[OTHERS.name] = (sum(one.cpu() for one in group[1:]) - before) / (len(group) - 1) / jobs * 1e6
    return figures


async def submit(group: Sequence[Gateway], seconds: float) -> int:
    """Submit jobs for some seconds and wait until all have ended; returns their number."""
    clients = [gateway.http() for gateway in group]
    jobs, end = 0, time.perf_counter() + seconds

    async def one_after_another(http: KeepAlive) -> None:
        nonlocal jobs
        while time.perf_counter() < end:
            response = await http.request("POST", "/jobs/", {"task": TASK, "data": PAYLOAD})
            if response.status != 303:
                raise RuntimeError(f"the gateway responded with {response.status}: {response.body[:500]!r}")
            jobs += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(IN_FLIGHT):
            tasks.create_task(one_after_another(clients[number % len(clients)]))
    while (await clients[0].request("GET", "/jobs/?limit=1&status=queued,started")).json["jobs"]:
        await asyncio.sleep(POLL)
    for http in clients:
        await http.close()
    return jobs
