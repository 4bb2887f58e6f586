"""Tasks that call tasks, plain and `async def`; each prints or returns what it sees. A worker script."""

import asyncio
import os
import time
from pathlib import Path

from crew.errors import CrewError
from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


def say(*words):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def _seen():
    return {
        "remaining": context.remaining,
        "deadline": time.time() + context.remaining,
        "headers": context.call_headers,
        "pid": os.getpid(),
    }


# --- three levels ----------------------------------------------------------------------------------------------------


@Task(PREFIX + "outer")
def outer(data):
    try:
        return [_seen(), *context.call(PREFIX + "middle", data).result()]
    except SystemExit as interrupt:
        say("INTERRUPTED", "outer", interrupt.reason, time.time())
        raise


@Task(PREFIX + "middle")
async def middle(data):
    try:
        return [_seen(), *await context.call(PREFIX + "inner", data)]
    except asyncio.CancelledError as interrupt:
        say("INTERRUPTED", "middle", *interrupt.args, time.time())
        raise


@Task(PREFIX + "inner")
def inner(data):
    say("INNER", data.get("name"))
    try:
        time.sleep(data.get("seconds", 0))
    except SystemExit as interrupt:
        say("INTERRUPTED", "inner", interrupt.reason, time.time())
        raise
    return [_seen()]


# --- one level -------------------------------------------------------------------------------------------------------


@Task(PREFIX + "itself")
def itself(data):
    return context.call(PREFIX + "itself", data).result()


@Task(PREFIX + "pair")
def pair(data):
    """Makes two calls at the same time."""
    calls = [context.call(PREFIX + "inner", {"seconds": 0.5}) for _ in range(2)]
    return [len(call.result()) for call in calls]


@Task(PREFIX + "leaves")
def leaves(data):
    """Returns without waiting for its nested call."""
    call = context.call(PREFIX + "inner", {"seconds": 20, "name": data})
    while not call.has_started:
        time.sleep(0.01)


@Task(PREFIX + "late")
def late(data):
    """Makes nested calls after its deadline, and prints their errors."""
    try:
        time.sleep(60)
    except SystemExit:
        with context.shield():
            for what in ("shielded", "bare"):
                try:
                    context.call(PREFIX + "inner", {"name": what}).result()
                except CrewError as error:
                    say("LATE", type(error).__name__, error)


@Task(PREFIX + "impatient")
def impatient(data):
    call = context.call(PREFIX + "inner", {"seconds": 0.4})
    try:
        call.result(timeout=0.05)
    except TimeoutError as error:
        return [str(error), len(call.result())]


@Task(PREFIX + "mistaken")
async def mistaken(data):
    """Blocks the event loop by `result()`, where it should await."""
    return context.call(PREFIX + "inner", {}).result()


@Task(PREFIX + "failing")
def failing(data):
    return context.call(PREFIX + data).result()


@Task(PREFIX + "raising")
def raising(data):
    raise KeyError("inside")


@Task(PREFIX + "gathered")
async def gathered(count):
    return await asyncio.gather(*(context.call(PREFIX + "nap", 0.2) for _ in range(count)))


@Task(PREFIX + "commit")
def commit(data):
    """Makes a nested call inside a shield; the call outlives the cancel of this task."""
    try:
        with context.shield():
            say("COMMITTING")
            say("COMMITTED", len(context.call(PREFIX + "inner", {"seconds": 1}).result()))
    except SystemExit as interrupt:
        say("INTERRUPTED", "commit", interrupt.reason)
        raise


# --- coroutines ------------------------------------------------------------------------------------------------------


@Task(PREFIX + "nap")
async def nap(seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as interrupt:
        say("NAP INTERRUPTED", *interrupt.args, time.time())
        raise
    return os.getpid()


@Task(PREFIX + "nap until")
async def nap_until(file):
    """Wait until `file` exists."""
    try:
        while not await asyncio.to_thread(Path(file).exists):
            await asyncio.sleep(0.02)
    except asyncio.CancelledError as interrupt:
        say("NAP INTERRUPTED", *interrupt.args, time.time())
        raise
    return os.getpid()


@Task(PREFIX + "block")
async def block(seconds):
    time.sleep(seconds)  # noqa: ASYNC251  # on purpose
    return seconds


@Task(PREFIX + "stubborn nap")
async def stubborn_nap(data):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say("STUBBORN")


if __name__ == "__main__":
    run()
