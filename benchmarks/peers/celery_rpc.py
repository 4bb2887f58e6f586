"""Celery with the result backend `rpc://` and the pool `solo`, its fastest one for short tasks."""

from typing import Any

import load
from celery import Celery

from peers.role import PREFETCH, TIMEOUT, URL, BlockingCalls, main

app = Celery("crew.benchmark.celery", broker=URL, backend="rpc://")
app.conf.update(
    worker_prefetch_multiplier=PREFETCH,
    task_default_queue="crew.benchmark.celery",
    task_serializer="json",
    result_serializer="json",
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)


def _echo(data: Any) -> Any:
    return data


echo = app.task(_echo, name="echo")
OPTIONS = ("--pool", "solo", "--without-gossip", "--without-mingle", "--loglevel", "ERROR")


async def worker(_: str) -> None:
    """Serve the echo."""
    print("ready", flush=True)
    app.worker_main(["worker", *OPTIONS])


async def client(_: str) -> None:
    """Run the orders from stdin."""
    calls = BlockingCalls(echo.delay, lambda result: result.get(timeout=TIMEOUT))
    await calls.call(load.PAYLOAD)  # the worker is ready later than it says
    await load.serve(calls.call)


if __name__ == "__main__":
    main(client, worker)
