"""The tasks that the article's handlers call."""

import time
from typing import Any

from crew.worker import Task, context, run


@Task("test")
def test(data: str) -> int:
    return len(data)


@Task("stat")
def stat(data: None) -> dict[str, Any]:
    return {"uuid": context.settings.uuid}


@Task("dead")
def dead(data: None) -> None:
    while True:
        time.sleep(0.01)


@Task("publish")
def publish(data: bytes) -> str:
    context.pubsub.publish("test", data)
    return "published"


if __name__ == "__main__":
    run()
