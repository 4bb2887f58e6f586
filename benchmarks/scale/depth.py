"""What a queue of a million waiting calls changes: for an urgent call, for the broker, and for its restart."""

import sys
import time
from typing import Any, Final

import pika
from process import Process
from scale.backlog import fill
from scale.broker import Broker, private_broker
from scale.curve import Column, Curve
from scale.options import Options

from crew import UnknownTask
from crew.client.blocking import Client

DEPTHS: Final = (0, 10_000, 100_000, 1_000_000)
TASK: Final = "scale.depth"
QUEUE: Final = f"crew.tasks.{TASK}"
SINK: Final = "scale.depth.replies"
URGENT: Final = 30  # calls
START_TIMEOUT: Final = 60.0  # seconds
SETTLING: Final = 0.5  # seconds without a change of the queue

PUBLISH: Final = Column("a new call, broker's CPU µs", 1, is_cost=True)
PUBLISHED: Final = Column("new calls/s")
LATENCY: Final = Column("urgent call, ms", 1)
OVERTAKEN: Final = Column("calls that start before it, median")
OVERTAKEN_MOST: Final = Column("most")
MEMORY: Final = Column("broker, MiB")
MEMORY_EACH: Final = Column("bytes of memory a call")
RESTART: Final = Column("restart after SIGKILL, s", 1)
RESTART_CPU: Final = Column("its CPU s", 1)
LOST: Final = Column("calls lost by it")
COLUMNS: Final = (
    PUBLISHED,
    PUBLISH,
    LATENCY,
    OVERTAKEN,
    OVERTAKEN_MOST,
    MEMORY,
    MEMORY_EACH,
    RESTART,
    RESTART_CPU,
    LOST,
)


def measure(options: Options) -> list[Curve]:
    """Fill the queue of one task deeper and deeper."""
    curve = Curve("Waiting calls of a task", "waiting", COLUMNS)
    with private_broker() as broker:
        declare(broker)
        empty = broker.memory()
        for depth in options.points(DEPTHS):
            name = f"{depth:,}"
            added = depth - waiting(broker)
            if added > 0:
                cpu, begin = broker.cpu(), time.perf_counter()
                fill(broker.url, TASK, SINK, added)
                took, cpu = time.perf_counter() - begin, broker.cpu() - cpu
                curve.add(name, {PUBLISHED.name: added / took, PUBLISH.name: cpu / added * 1e6})
                curve.add(name, {MEMORY_EACH.name: (broker.memory() - empty) * 2**20 / depth})
            curve.add(name, {MEMORY.name: broker.memory(), **urgent(broker)})
            print(f"{name} calls: {curve.points[name]}", file=sys.stderr, flush=True)
            curve.add(name, restart(broker))
    return [curve]


def declare(broker: Broker) -> None:
    """Let a worker declare the queue of its task; and declare a queue that discards the replies of the backlog."""
    with Client(broker.url) as client:
        worker = start_worker(broker)
        _call(client, {"since": 0})
        worker.stop()
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        arguments: Any = {"x-max-length": 1}
        connection.channel().queue_declare(SINK, durable=True, arguments=arguments)


def urgent(broker: Broker) -> dict[str, float]:
    """Start a worker, and make urgent calls one after another, while it runs the others, of 5 ms each."""
    worker = start_worker(broker)
    latencies, overtaken = [], []
    with Client(broker.url) as client:
        _call(client, {"since": 0})  # the worker is ready
        for _ in range(URGENT):
            began = time.time()
            overtaken.append(_call(client, {"since": began}))
            latencies.append(time.time() - began)
            time.sleep(0.02)
    worker.stop()
    latencies.sort()
    overtaken.sort()
    middle = URGENT // 2
    return {
        LATENCY.name: latencies[middle] * 1e3,
        OVERTAKEN.name: overtaken[middle],
        OVERTAKEN_MOST.name: overtaken[-1],
    }


def restart(broker: Broker) -> dict[str, float]:
    """Kill the broker and start it; the queue must have all its calls."""
    before = settled(broker)
    broker.kill()
    took = broker.start()
    return {RESTART.name: took.seconds, RESTART_CPU.name: took.cpu, LOST.name: before - waiting(broker)}


def settled(broker: Broker) -> int:
    """The number of calls that wait, once the broker has returned what a stopped worker had prefetched."""
    before, count = -1, waiting(broker)
    while count != before:
        time.sleep(SETTLING)
        before, count = count, waiting(broker)
    return count


def waiting(broker: Broker) -> int:
    """The number of calls that wait."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        return int(connection.channel().queue_declare(QUEUE, passive=True).method.message_count)


def start_worker(broker: Broker) -> Process:
    """A worker with one process."""
    return Process("-m", "scale.depth_worker", "--processes", "1", "--logging", "warning", url=broker.url)


def _call(client: Client, payload: Any) -> Any:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return client.call(TASK, payload, priority=255, expiration=START_TIMEOUT).result()
        except UnknownTask:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
