"""Tasks for the tests of jobs: a worker script. Each prints its start."""

import asyncio
import os
import sys
import threading
import time

import click

from crew.worker import Task, context
from crew.worker.command import start
from crew.worker.options import worker_options

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")
HEARTBEAT = float(os.environ.get("CREW_TEST_HEARTBEAT", "30"))  # seconds


def say(*words):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@Task(PREFIX + "nap", timeout=60)
def nap(seconds):
    """Prints its interrupt."""
    say("STARTED", context.job, context.attempt)
    try:
        time.sleep(seconds)
    except SystemExit as interrupt:
        say("INTERRUPTED", context.job, interrupt.reason)
        raise
    say("DONE", context.job)
    return os.getpid()


@Task(PREFIX + "nap.async", timeout=60)
async def nap_async(seconds):
    say("STARTED", context.job, context.attempt)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as interrupt:
        say("INTERRUPTED", context.job, *interrupt.args)
        context.progress({"cleaned": "up"})
        raise
    return os.getpid()


@Task(PREFIX + "endless")
def endless(seconds):
    """Has no timeout, so that its job is acknowledged when it starts."""
    return nap(seconds)


@Task(PREFIX + "die", timeout=60)
def die(times):
    say("STARTED", context.job, context.attempt)
    if context.attempt <= times:
        os._exit(3)
    return context.attempt


@Task(PREFIX + "die.once")
def die_once(data):
    time.sleep(0.3)
    os._exit(3)


def fail(attempts):
    say("STARTED", context.job, context.attempt)
    if context.attempt < attempts:
        raise OSError("not yet")
    return context.attempt


Task(PREFIX + "fail", timeout=60, retries=2, backoff=(0.3, 1))(fail)
Task(PREFIX + "fail.bounded", timeout=60, retries=2, backoff=(0.3, 1), max_queue=1)(fail)


@Task(PREFIX + "count", timeout=60)
def count(data):
    """Reports progress more often than it is sent."""
    for number in range(data["to"]):
        context.progress({"at": number})
        time.sleep(data["pause"])
    return data["to"]


@Task(PREFIX + "count.thread", timeout=60)
async def count_in_thread(data):
    await asyncio.to_thread(count, data)


@Task(PREFIX + "clean", timeout=60)
def clean(seconds):
    """Reports progress when it is interrupted."""
    try:
        say("STARTED", context.job, context.attempt)
        time.sleep(seconds)
    except SystemExit:
        context.progress({"cleaned": threading.current_thread().name})
        raise


@Task(PREFIX + "say", timeout=60)
def report(data):
    """Reports its payload as progress."""
    context.progress("x" * data["size"] if "size" in data else data["value"])
    return context.job


@click.command()
@worker_options
def main(**flags):
    """As `run`, with another interval of heartbeats."""
    sys.exit(start({}, job_heartbeat=HEARTBEAT, **flags))


if __name__ == "__main__":
    main()
