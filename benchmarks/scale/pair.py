"""A worker of crew with some echo tasks, and clients that call them."""

import contextlib
from typing import Final

from process import Process
from scale.broker import Broker

FLAGS: Final = ("--processes", "1", "--logging", "warning")


def start_worker(broker: Broker, stack: contextlib.ExitStack, prefix: str, count: int) -> Process:
    """Start a worker with one process and the tasks `<prefix>.0` to `<prefix>.<count - 1>`."""
    tasks = {"CREW_BENCHMARK_PREFIX": prefix, "CREW_BENCHMARK_TASKS": str(count)}
    worker = Process("startup_worker.py", *FLAGS, url=broker.url, environment=tasks)
    stack.callback(worker.stop)
    return worker


def start_client(broker: Broker, stack: contextlib.ExitStack, prefix: str, count: int, *, first: int = 0) -> Process:
    """Start a client that calls the tasks from `first` on in turn; it is ready when the last one is served."""
    client = Process("-m", "scale.tasks_client", prefix, str(first), str(count), url=broker.url)
    stack.callback(client.stop)
    client.wait_ready()
    return client
