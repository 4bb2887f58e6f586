"""Tasks of test_signing.py."""

import os
import signal
import time
from typing import Any

from crew.worker import Task, context, run

PREFIX = os.environ["CREW_TEST_PREFIX"]


@Task(PREFIX + "echo")
def echo(data: Any) -> Any:
    print(f"RAN {data!r}", flush=True)
    return data


@Task(PREFIX + "sleep")
def sleep(seconds: float) -> str:
    print("RUNS", flush=True)
    try:
        for _ in range(round(seconds / 0.02)):  # a thread is interrupted between two sleeps
            time.sleep(0.02)
    except SystemExit:
        print("INTERRUPTED", flush=True)
        raise
    return "slept"


@Task(PREFIX + "again", retries=2, retry_on=(LookupError,))
def again(_: Any) -> int:
    if context.attempt == 1:
        raise LookupError("the first attempt")
    return context.attempt


@Task(PREFIX + "nested")
def nested(data: Any) -> Any:
    context.pubsub.publish(PREFIX + "topic", data)
    return context.call(PREFIX + "echo", data).result()


@Task(PREFIX + "die")
def die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run()
