"""Tasks with process hooks, for the tests of the start, end and replacement of worker processes."""

import asyncio
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from crew.worker import Task, context, on_process_start, on_process_stop, run

PREFIX = os.environ["CREW_TEST_PREFIX"]
DATABASE = os.environ.get("HOOKED_DATABASE", ":memory:")
FAILS_WHILE = os.environ.get("HOOKED_FAILS_WHILE", "/nowhere")  # hooks fail while this file exists
HANGS = os.environ.get("HOOKED_HANGS", "")

connection: Any = None
loop = None
leaked: list[Any] = []


def say(*words):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@on_process_start
def connect():
    global connection
    if Path(FAILS_WHILE).exists():
        raise ConnectionRefusedError("no database")
    is_main = threading.current_thread() is threading.main_thread()
    connection = sqlite3.connect(DATABASE, timeout=30)
    say("CONNECTED", os.getpid(), is_main, context.settings.greeting)


@on_process_start
async def store_loop():
    global loop
    loop = asyncio.get_running_loop()


@on_process_stop
def disconnect():
    connection.close()
    say("CLOSED", os.getpid())


@on_process_stop
async def check_loop():
    say("SAME LOOP", asyncio.get_running_loop() is loop)


if HANGS == "start":

    @on_process_start(timeout=0.3)
    def hang():
        time.sleep(60)


if HANGS == "stop":

    @on_process_stop(timeout=0.3)
    async def hang_at_stop():
        await asyncio.sleep(60)


@Task(PREFIX + "value")
def value(number):
    return connection.execute("select ?", (number,)).fetchone()[0], id(connection), os.getpid()


@Task(PREFIX + "ran")
def ran(data):
    say("RAN", context.id)
    return os.getpid()


@Task(PREFIX + "leak")
def leak(size):
    leaked.append(b"x" * size)
    return os.getpid()


@Task(PREFIX + "loop")
async def is_same_loop(seconds):
    await asyncio.sleep(seconds)
    return asyncio.get_running_loop() is loop, os.getpid()


if __name__ == "__main__":
    run(greeting="hello")
