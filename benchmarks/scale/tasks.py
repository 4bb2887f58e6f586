"""Cost of a call against the number of tasks of its worker: calls of all tasks in turn, and calls of one of them."""

import contextlib
import time
from typing import Final

from load import Burst
from process import Process, cpu_of
from scale.broker import private_broker
from scale.calls import COSTS, P50, RATE, turn
from scale.curve import Column, Curve
from scale.options import Options
from scale.pair import start_client, start_worker

COUNTS: Final = (1, 10, 100, 1000)
IDLE: Final = 35.0  # seconds; crew declares its queues again every 30 s
FIRST_CALLS: Final = 8  # of each task, before anything is measured: then its worker knows how long it runs
PREFIX: Final = "scale.tasks"

PSS: Final = Column("worker, PSS MiB", 1)
MEMORY: Final = Column("broker grows, MiB")
IDLE_CPU: Final = Column("idle worker process, CPU ms a second", 2)


def measure(options: Options) -> list[Curve]:
    """One worker process for each number of tasks; all are running while their clients take turns."""
    of_one = Curve("Tasks of a worker, calls of one of them", "tasks", (RATE, P50, *COSTS, PSS, MEMORY, IDLE_CPU))
    of_all = Curve("Tasks of a worker, calls of all in turn", "tasks", (RATE, P50, *COSTS))
    with private_broker() as broker, contextlib.ExitStack() as stack:
        points = options.points(COUNTS)
        workers: dict[int, Process] = {}
        clients: dict[int, list[tuple[Curve, Process]]] = {}
        for count in points:
            prefix, before = f"{PREFIX}.{count}", broker.memory()
            workers[count] = start_worker(broker, stack, prefix, count)
            one = start_client(broker, stack, prefix, count, first=count - 1)
            of_one.add(str(count), {MEMORY.name: broker.memory() - before})
            clients[count] = [(of_one, one), (of_all, start_client(broker, stack, prefix, count))]
            for _, client in clients[count]:
                for _ in range(FIRST_CALLS):
                    client.request(Burst(burst=max(count, 100), times=1))
        for turns in options.turns(points):
            for count in turns:
                for curve, client in clients[count]:
                    curve.add(str(count), turn(broker, client, [workers[count]], options.seconds))
        idle(of_one, workers)
    return [of_one, of_all]


def idle(curve: Curve, workers: dict[int, Process]) -> None:
    """Add memory and CPU time of the workers while they are idle."""
    children = {count: worker.pids[1:] for count, worker in workers.items()}
    before = {count: sum(map(cpu_of, pids)) for count, pids in children.items()}
    time.sleep(IDLE)
    for count, pids in children.items():
        used = (sum(map(cpu_of, pids)) - before[count]) / IDLE
        curve.add(str(count), {PSS.name: workers[count].pss(), IDLE_CPU.name: used * 1e3})
