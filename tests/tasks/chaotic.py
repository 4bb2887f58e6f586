"""Tasks of the chaos test: they sleep, burn CPU, swallow interrupts and die, and record when they start and end.

Each line is one write, so that the lines of several processes do not mix and a SIGKILL breaks none. Times are
time.monotonic(), which the processes of a host share.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import time

from crew.worker import Task, context, run

PREFIX = os.environ["CREW_TEST_PREFIX"]
EXECUTORS = os.environ["CREW_CHAOS_EXECUTORS"].split(",")
RECORD = os.open(os.environ["CREW_CHAOS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
RUNS_ON = 0.4  # seconds that a task continues after an interrupt that it swallows
SHIELDED = 0.2  # seconds
BLOCKS = 0.03  # seconds for which a coroutine blocks its loop

numbers = itertools.count()


def say(word, *values):
    """Write one line to the record."""
    os.write(RECORD, (" ".join(map(str, (word, *values, time.monotonic()))) + "\n").encode())


os.register_at_fork(after_in_child=lambda: say("BORN", os.getpid()))


@contextlib.contextmanager
def recorded():
    """Record START and END of one run. END may be recorded twice: an interrupt may be raised between any two lines."""
    token = f"{os.getpid()}.{next(numbers)}"
    try:
        try:
            say("START", token, context.id, time.monotonic() + context.remaining)
            yield token
        except (SystemExit, asyncio.CancelledError):
            say("INTERRUPTED", token)
            raise
        finally:
            say("END", token)
    finally:
        say("END", token)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise LookupError("as planned")


# --- plain functions -------------------------------------------------------------------------------------------------


def nap(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def swallow(seconds, token):
    try:
        nap(seconds)
    except SystemExit:
        say("INTERRUPTED", token)
        nap(RUNS_ON)


def shielded(seconds):
    with context.shield():
        nap(SHIELDED)
    nap(seconds)


def stubborn():
    for _ in itertools.count():
        try:
            time.sleep(60)
        except SystemExit:
            continue


KINDS = {
    "quick": lambda seconds, token: None,
    "nap": lambda seconds, token: nap(seconds),
    "block": lambda seconds, token: time.sleep(seconds),
    "spin": lambda seconds, token: spin(seconds),
    "swallow": swallow,
    "shielded": lambda seconds, token: shielded(seconds),
    "fail": lambda seconds, token: nap(seconds) or fail(),
    "die": lambda seconds, token: nap(seconds) or die(),
    "stubborn": lambda seconds, token: stubborn(),
}


def run_kind(data):
    with recorded() as token:
        KINDS[data["kind"]](data["seconds"], token)
    return context.id


# --- coroutines ------------------------------------------------------------------------------------------------------


async def spin_async(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        spin(BLOCKS / 10)
        await asyncio.sleep(BLOCKS)


async def swallow_async(seconds, token):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        say("INTERRUPTED", token)
        await asyncio.sleep(RUNS_ON)


async def shielded_async(seconds):
    with context.shield():
        await asyncio.sleep(SHIELDED)
    await asyncio.sleep(seconds)


async def block_async(seconds):
    time.sleep(BLOCKS)  # noqa: ASYNC251  # careless tasks do this
    await asyncio.sleep(seconds)


async def after(seconds, function):
    await asyncio.sleep(seconds)
    function()


ASYNC_KINDS = {
    "quick": lambda seconds, token: asyncio.sleep(0),
    "nap": lambda seconds, token: asyncio.sleep(seconds),
    "block": lambda seconds, token: block_async(seconds),
    "spin": lambda seconds, token: spin_async(seconds),
    "swallow": swallow_async,
    "shielded": lambda seconds, token: shielded_async(seconds),
    "fail": lambda seconds, token: after(seconds, fail),
    "die": lambda seconds, token: after(seconds, die),
}


async def run_kind_async(data):
    with recorded() as token:
        await ASYNC_KINDS[data["kind"]](data["seconds"], token)
    return context.id


for executor in EXECUTORS:
    Task(PREFIX + executor)(run_kind_async if executor == "async" else run_kind)

if __name__ == "__main__":
    run()
