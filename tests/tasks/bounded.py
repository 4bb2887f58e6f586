"""Tasks for the tests of full queues: a worker script with two tasks with max_queue, and one without."""

import os
import time

from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


@Task(PREFIX + "hold", max_queue=3)
def hold(seconds):
    time.sleep(seconds)
    return seconds


@Task(PREFIX + "flaky", max_queue=1, retries=1, backoff=(0.5, 60))
def flaky(fails):
    if fails and context.attempt == 1:
        raise OSError("the first attempt fails")
    return context.attempt


@Task(PREFIX + "busy")
def busy(seconds):
    time.sleep(seconds)


if __name__ == "__main__":
    run()
