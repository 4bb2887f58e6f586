"""How long a worker takes to serve again after SIGKILL of the broker, against the number of its tasks."""

import contextlib
import threading
import time
from typing import Final

from scale.broker import Broker, Restart, private_broker
from scale.curve import Column, Curve
from scale.options import Options
from scale.pair import start_client, start_worker

from crew.client.blocking import Client

COUNTS: Final = (5, 100, 300, 1000)
EXPIRATION: Final = 300.0  # seconds; of a call that is made while the broker is down
PREFIX: Final = "scale.reconnect"

START: Final = Column("broker accepts connections after, s", 1)
REPLY: Final = Column("first reply after, s", 1)
WORKER: Final = Column("worker, CPU s", 2)
WORKER_EACH: Final = Column("CPU ms for each further task", 2, is_cost=True)


def measure(options: Options) -> list[Curve]:
    """One broker and one worker process for each point."""
    curve = Curve("Restart, until a worker serves", "tasks", (START, REPLY, WORKER, WORKER_EACH))
    points, least = options.points(COUNTS), 0.0
    for count in points:
        point = f"{count:,}"
        with private_broker() as broker, contextlib.ExitStack() as stack:
            worker = start_worker(broker, stack, PREFIX, count)
            start_client(broker, stack, PREFIX, count, first=count - 1).stop()
            before = worker.cpu()
            curve.add(point, killed(broker, f"{PREFIX}.{count - 1}"))
            used = worker.cpu() - before
            curve.add(point, {WORKER.name: used})
            if count > points[0]:
                curve.add(point, {WORKER_EACH.name: (used - least) / (count - points[0]) * 1e3})
            least = least or used
    return [curve]


def killed(broker: Broker, task: str) -> dict[str, float]:
    """Kill the broker, make a call, and start the broker: seconds until it accepts connections, and until the reply."""
    with Client(broker.url) as client:
        client.call(task, 1, expiration=EXPIRATION).result()
        broker.kill()
        call = client.call(task, 1, expiration=EXPIRATION)
        begin = time.perf_counter()
        started: list[Restart] = []
        thread = threading.Thread(target=lambda: started.append(broker.start()))
        thread.start()
        call.result()
        replied = time.perf_counter() - begin
        thread.join()
    return {START.name: started[0].seconds, REPLY.name: replied}
