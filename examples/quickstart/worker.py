"""The tasks for master.py and emit_task.py: python worker.py --help"""

import itertools
import os
import time
from typing import Any

from crew.worker import HandlerClass, Task, context, run


@Task("test")
def test(text: str) -> dict[str, Any]:
    context.settings.served += 1
    return {"characters": len(text), "worker": context.settings.uuid}


class Stat(HandlerClass):
    """A task can be a class, too."""

    def process(self) -> dict[str, Any]:
        context.settings.served += 1
        context.headers["worker"] = context.settings.uuid  # a header of the reply
        return {
            "worker": context.settings.uuid,
            "pid": os.getpid(),
            "served": context.settings.served,
            "interrupted": context.settings.interrupted,
        }


Stat.bind("stat")


@Task("dead")
def dead(_: object) -> None:
    try:
        for _round in itertools.count():  # an endless loop; crew ends it with SystemExit
            pass
    finally:
        context.settings.interrupted += 1


@Task("divide")
def divide(numbers: list[float]) -> float:
    dividend, divisor = numbers
    return dividend / divisor


@Task("publish")
def publish(text: str) -> str:
    context.pubsub.publish("news", text)
    return "published by a worker"


@Task("sleep")
def sleep(seconds: float) -> dict[str, Any]:
    started = time.time()
    time.sleep(seconds)
    return {"worker": context.settings.uuid, "started": started, "ended": time.time()}


if __name__ == "__main__":
    run(served=0, interrupted=0)  # these become context.settings, which tasks of one process share
