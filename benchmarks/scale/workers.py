"""Cost of a call against the number of worker processes of its task: one of crew, the others `light_workers`."""

import contextlib
from typing import Any, Final

import msgspec
import pika
from process import Process
from scale.broker import Broker, private_broker
from scale.calls import COSTS, MANY, P50, RATE, turn
from scale.curve import Column, Curve
from scale.options import Options
from scale.pair import start_client, start_worker

COUNTS: Final = (1, 10, 50, 200)
PREFIX: Final = "scale.workers"
CANCELS: Final = 200  # broadcast messages in one turn

MEMORY: Final = Column("broker grows, MiB a worker", 2)
CANCEL: Final = Column("a cancel, broker's CPU ms", 2)
CANCEL_EACH: Final = Column("the same for each further worker, µs", 1, is_cost=True)


class Team(msgspec.Struct, frozen=True):
    """The client of one task, its worker of crew, and the process of its light workers; `count` is of all workers."""

    client: Process
    workers: tuple[Process, Process]
    count: int


def measure(options: Options) -> list[Curve]:
    """A task for each number of workers; all workers are running while the clients of the tasks take turns."""
    curve = Curve("Workers of a task", "worker processes", (RATE, P50, *COSTS, CANCEL, CANCEL_EACH, MEMORY))
    with private_broker() as broker, contextlib.ExitStack() as stack:
        points = options.points(COUNTS)
        teams = [start(broker, stack, count, curve) for count in points]
        for team in teams:
            team.client.order(options.seconds, MANY)
        for turns in options.turns(teams):
            for team in turns:
                curve.add(str(team.count), turn(broker, team.client, team.workers, options.seconds))
            cancels = {count: cancel(broker, count) for count in points}
            for count, cpu in cancels.items():
                curve.add(str(count), {CANCEL.name: cpu * 1e3})
                if count > 1:
                    curve.add(str(count), {CANCEL_EACH.name: (cpu - cancels[1]) / (count - 1) * 1e6})
    return [curve]


def start(broker: Broker, stack: contextlib.ExitStack, count: int, curve: Curve) -> Team:
    """Start the workers of one task and its client; add how much memory the broker needs for a light worker."""
    prefix = f"{PREFIX}.{count}"
    worker = start_worker(broker, stack, prefix, 1)
    client = start_client(broker, stack, prefix, 1)
    before = broker.memory()
    light = Process("-m", "scale.light_workers", str(count - 1), f"{prefix}.0", str(count), key(count), url=broker.url)
    stack.callback(light.stop)
    light.wait_ready()
    curve.add(str(count), {MEMORY.name: (broker.memory() - before) / (count - 1)} if count > 1 else {})
    return Team(client, (worker, light), count)


def key(count: int) -> str:
    """The routing key of broadcasts to all workers of the task with `count` workers."""
    return f"task.{PREFIX}.{count}.broadcast"


def cancel(broker: Broker, count: int) -> float:
    """CPU seconds of the broker for one message to all `count` workers of a task."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel: Any = connection.channel()
        channel.confirm_delivery()
        before = broker.cpu()
        for _ in range(CANCELS):
            channel.basic_publish("crew.control", key(count), b"", mandatory=True)
        return (broker.cpu() - before) / CANCELS
