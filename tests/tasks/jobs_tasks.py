"""Tasks of the jobs in test_jobs_cli.py."""

import os
import time
from typing import Any

from crew.worker import Task, run

PREFIX = os.environ["CREW_TEST_PREFIX"]


@Task(PREFIX + "double")
def double(value: Any) -> Any:
    return value * 2


@Task(PREFIX + "fail")
def fail(_: Any) -> None:
    raise LookupError("no such\x1b[2J\nthing")


@Task(PREFIX + "sleep")
def sleep(seconds: float) -> None:
    print("asleep", flush=True)
    try:
        time.sleep(seconds)
    except SystemExit:
        print("interrupted", flush=True)
        raise


if __name__ == "__main__":
    run()
