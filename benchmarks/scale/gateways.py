"""Cost of a call against the number of gateways; all together always have the same number of calls in flight."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from load import Measurement
from process import Process
from scale.broker import private_broker
from scale.calls import BROKER, CLIENT, COSTS, MANY, RATE, WAKE_UPS, WORKER, wake_ups_of_all
from scale.curve import Column, Curve
from scale.options import Options

COUNTS: Final = (1, 2, 4, 8)
P50: Final = Column("slowest p50, ms", 1)
SPREAD: Final = Column("slowest / fastest gateway, calls", 2)


def measure(options: Options) -> list[Curve]:
    """The first gateways of eight, in turns. A gateway is a process with a client; HTTP would only add its own cost."""
    curve = Curve("Gateways", "gateways", (RATE, P50, SPREAD, *COSTS))
    with private_broker() as broker, contextlib.ExitStack() as stack:
        worker = Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=broker.url)
        stack.callback(worker.stop)
        clients: list[Process] = []
        points = options.points(COUNTS)
        for count in points:
            for _ in range(count - len(clients)):
                clients.append(Process("echo_client.py", "--persistent", url=broker.url))
                stack.callback(clients[-1].stop)
                clients[-1].wait_ready()
        together(clients, options.seconds)
        for turns in options.turns(points):
            for count in turns:
                processes = [worker, *clients[:count]]
                of_worker, of_broker, wake_ups = worker.cpu(), broker.cpu(), wake_ups_of_all(processes)
                measured = together(clients[:count], options.seconds)
                calls = [one["calls"] for one in measured]
                curve.add(
                    str(count),
                    {
                        RATE.name: sum(one["calls"] / one["seconds"] for one in measured),
                        P50.name: max(one["p50"] for one in measured) * 1e3,
                        SPREAD.name: min(calls) / max(calls),
                        CLIENT.name: sum(one["cpu"] for one in measured) / sum(calls) * 1e6,
                        WORKER.name: (worker.cpu() - of_worker) / sum(calls) * 1e6,
                        BROKER.name: (broker.cpu() - of_broker) / sum(calls) * 1e6,
                        WAKE_UPS.name: (wake_ups_of_all(processes) - wake_ups) / sum(calls),
                    },
                )
    return [curve]


def together(clients: Sequence[Process], seconds: float) -> list[Measurement]:
    """Load from several clients at the same time."""
    with ThreadPoolExecutor(len(clients)) as threads:
        return list(threads.map(lambda client: client.order(seconds, MANY // len(clients)), clients))
