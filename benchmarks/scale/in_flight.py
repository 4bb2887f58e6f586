"""Cost of a call against the number of calls that one client has in flight."""

import contextlib
from typing import Final

from process import Process
from scale.broker import private_broker
from scale.calls import COSTS, MANY, cost
from scale.curve import Column, Curve
from scale.options import Options

COUNTS: Final = (1, 10, 100, 1000, 10_000)  # a client refuses more than 10,000, unless max_pending is larger
PER_SECOND: Final = 2_500  # calls; a turn is long enough to replace each call in flight at this rate

RATE: Final = Column("calls/s")
P50: Final = Column("p50, ms", 1)
LATENCY: Final = Column("p50 × calls/s / in flight", 2)
MEMORY: Final = Column("client, PSS MiB", 1)


def measure(options: Options) -> list[Curve]:
    """The same client and worker at all points."""
    curve = Curve("Calls in flight", "in flight", (RATE, P50, LATENCY, *COSTS, MEMORY))
    with private_broker() as broker, contextlib.ExitStack() as stack:
        worker = Process("echo_worker.py", "--processes", "1", "--logging", "warning", url=broker.url)
        stack.callback(worker.stop)
        client = Process("echo_client.py", "--persistent", url=broker.url)
        stack.callback(client.stop)
        client.wait_ready()
        client.order(options.seconds, MANY)
        for number in range(options.rounds):
            for count in options.points(COUNTS):
                figures = cost(broker, client, [worker], max(options.seconds, count / PER_SECOND), count)
                rate, p50 = figures.pop("rate"), figures.pop("p50")
                law = p50 * rate / count
                curve.add(f"{count:,}", {RATE.name: rate, P50.name: p50 * 1e3, LATENCY.name: law, **figures})
                if number == 0:  # later it would be that of the largest point
                    curve.add(f"{count:,}", {MEMORY.name: client.pss()})
    return [curve]
