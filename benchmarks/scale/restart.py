"""How long the broker takes to start with many queues, after SIGKILL and after a stop, and until crew is served again.

Each kind of queue has a broker of its own. A broker gets more and more queues, and restarts with each number of them.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Final

from scale import queues
from scale.broker import Broker, Restart, private_broker
from scale.curve import Column, Curve
from scale.options import Options
from scale.pair import start_client, start_worker

from crew.client.blocking import Client

COUNTS: Final = (5, 100, 300, 1000)
EXPIRATION: Final = 300.0  # seconds; of a call that is made while the broker is down
PREFIX: Final = "scale.restart"

DECLARE: Final = Column("declare, ms a queue", 1)
MEMORY: Final = Column("broker after it, MiB")
KILLED: Final = Column("start after SIGKILL, s", 1)
KILLED_CPU: Final = Column("its CPU s", 1)
KILLED_EACH: Final = Column("CPU ms for each further queue", 1, is_cost=True)
STOPPED: Final = Column("start after a stop, s", 1)
STOPPED_CPU: Final = Column("its CPU s ", 1)
STOPPED_EACH: Final = Column("CPU ms for each further queue ", 1, is_cost=True)
COLUMNS: Final = (DECLARE, MEMORY, KILLED, KILLED_CPU, KILLED_EACH, STOPPED, STOPPED_CPU, STOPPED_EACH)

START: Final = Column("broker, s", 1)
REPLY: Final = Column("first reply, s", 1)
CREW: Final = Column("worker, CPU s", 2)
CREW_EACH: Final = Column("CPU ms for each further task", 2, is_cost=True)


def measure(options: Options) -> list[Curve]:
    """One restart of each kind at each point."""
    points = options.points(COUNTS)
    return [*(of_queues(kind, points) for kind in queues.KINDS), of_crew(points)]


def of_queues(kind: str, points: Sequence[int]) -> Curve:
    """Restart a broker with queues of one kind, and nothing else."""
    curve = Curve(f"Restart, {kind}", "queues", COLUMNS)
    with private_broker() as broker:
        least: tuple[Restart, Restart] | None = None
        for before, count in zip((0, *points), points, strict=False):
            took = queues.declare(broker, kind, range(before, count)) / (count - before)
            broker.kill()
            killed = broker.start()
            queues.check(broker, kind, range(count))
            memory = broker.memory()
            broker.stop()
            stopped = broker.start()
            curve.add(
                f"{count:,}",
                {
                    DECLARE.name: took * 1e3,
                    MEMORY.name: memory,
                    KILLED.name: killed.seconds,
                    KILLED_CPU.name: killed.cpu,
                    STOPPED.name: stopped.seconds,
                    STOPPED_CPU.name: stopped.cpu,
                },
            )
            least = least or (killed, stopped)
            if (further := count - COUNTS[0]) > 0:
                of_killed = (killed.cpu - least[0].cpu) / further * 1e3
                of_stopped = (stopped.cpu - least[1].cpu) / further * 1e3
                curve.add(f"{count:,}", {KILLED_EACH.name: of_killed, STOPPED_EACH.name: of_stopped})
    return curve


def of_crew(points: Sequence[int]) -> Curve:
    """Kill a broker whose tasks a worker serves, and make a call while it is down."""
    curve = Curve("Restart, tasks of a worker", "tasks", (START, REPLY, CREW, CREW_EACH))
    least = 0.0
    for count in points:
        with private_broker() as broker, contextlib.ExitStack() as stack:
            worker = start_worker(broker, stack, PREFIX, count)
            start_client(broker, stack, PREFIX, count, first=count - 1).stop()
            before = worker.cpu()
            curve.add(f"{count:,}", killed(broker, f"{PREFIX}.{count - 1}"))
            used = worker.cpu() - before
            curve.add(f"{count:,}", {CREW.name: used})
            if count == COUNTS[0]:
                least = used
            else:
                curve.add(f"{count:,}", {CREW_EACH.name: (used - least) / (count - COUNTS[0]) * 1e3})
    return curve


def killed(broker: Broker, task: str) -> dict[str, float]:
    """Seconds from the start of the killed broker until it accepts connections, and until the reply of a call."""
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
