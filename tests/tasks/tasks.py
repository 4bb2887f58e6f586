"""Tasks of the integration tests: a worker script. `PREFIX` gives each test its own queues.

A worker serves the tasks that CREW_TEST_TASKS names, by default all: a queue costs the broker 25 ms of CPU time.
"""

import itertools
import os
import queue
import re
import signal
import sys
import time
from collections import Counter

from crew.errors import Overloaded
from crew.worker import HandlerClass, Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")
SERVED = os.environ.get("CREW_TEST_TASKS", "").split()


def task(name):
    """A task whose name has the prefix, if it is to be served."""
    return Task(PREFIX + name) if not SERVED or name in SERVED else lambda function: function


def say(*words):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@task("echo")
def echo(data):
    return data


@task("headers")
def headers(data):
    context.headers["answer"] = context.call_headers.get("question", "none") * 2
    return sorted(context.headers)


@task("who")
def who(data):
    context.settings.counter += 1
    return {"pid": os.getpid(), "uuid": context.settings.uuid, "counter": context.settings.counter}


@task("sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@task("note")
def note(data):
    """Prints its name at its start; sleeps if the payload has `seconds`."""
    say("STARTED", data["name"])
    time.sleep(data.get("seconds", 0))
    return {"name": data["name"], "pid": os.getpid()}


@task("cancellable")
def cancellable(name):
    """Prints its start and its interrupt."""
    say("RUNS", name)
    try:
        time.sleep(60)
    except SystemExit:
        say("INTERRUPTED", name)
        raise


@task("publish")
def publish(data):
    context.pubsub.publish(data["topic"], data["message"])


@task("pressed")
def pressed(data):
    """Makes nested calls until one is refused, then publishes, which is refused too."""
    refusal = None
    while refusal is None:
        refusal = _refusal_of_call()
    try:
        context.pubsub.publish("pressed", 1)
    except Overloaded as refused:
        say("REFUSED both")
        return [str(refusal), str(refused)]


def _refusal_of_call():
    """Make a nested call; returns its error if it is refused, else None.

    A call that is not refused waits for a slot, as this task has the only one: it is canceled.
    """
    call = context.call(PREFIX + "echo", 1)
    try:
        call.result(timeout=0.05)
    except Overloaded as refused:
        return refused
    except TimeoutError:
        call.cancel()


@task("remaining")
def remaining(data):
    return context.remaining


class Doubled(HandlerClass):
    def process(self):
        return self.payload * 2


if not SERVED or "doubled" in SERVED:
    Doubled.bind(PREFIX + "doubled")


# --- hanging ---------------------------------------------------------------------------------------------------------


def _loop():
    for _ in itertools.count():
        pass


HANGS = {  # hangs.py has many more
    "endless loop": _loop,
    "time.sleep": lambda: time.sleep(60),
    "Queue.get": lambda: queue.Queue().get(),
    "regex": lambda: re.match(r"(a+)+$", "a" * 40 + "b"),
}


@task("hang")
def hang(kind):
    """Hangs; prints how many milliseconds after its limit SystemExit was raised, and that `finally` ran."""
    limit = time.monotonic() + context.remaining
    say("HANGING", f"[{kind}]")
    try:
        HANGS[kind]()
    except SystemExit as interrupt:
        say("INTERRUPTED", f"[{kind}]", interrupt.reason, f"{(time.monotonic() - limit) * 1000:.1f}")
        raise
    finally:
        say("FINALLY", f"[{kind}]")


@task("swallow")
def swallow(seconds):
    """Runs on for a while after its first interrupt."""
    try:
        time.sleep(60)
    except SystemExit:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
    return "too late"


@task("stubborn")
def stubborn(data):
    """Runs on after each interrupt."""
    for _ in itertools.count():
        try:
            time.sleep(60)
        except SystemExit:
            say("STUBBORN")


@task("shielded")
def shielded(seconds):
    """Sleeps inside a shield, so that no interrupt breaks it."""
    try:
        with context.shield():
            time.sleep(seconds)
            say("COMMITTED")
        say("NOT INTERRUPTED")
    except SystemExit as interrupt:
        say("AFTER THE SHIELD", interrupt.reason)
        raise


@task("cooperative")
def cooperative(data):
    try:
        return context.canceled.wait(60)
    except SystemExit:
        return context.canceled.is_set()


@task("spin")
def spin(data):
    """Ends at about its timeout; prints STRAY if it gets the interrupt of another execution."""
    own_id = context.id
    try:
        end = time.perf_counter() + data["seconds"]
        while time.perf_counter() < end:
            pass
    except SystemExit:
        if context.id != own_id or context.remaining > 0.0005:
            say("STRAY", own_id, context.id, context.remaining)
        say("INTERRUPTED", own_id)
        raise
    return own_id


# --- behaving badly --------------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("its text cannot be made")


BAD = {
    "raise": lambda: dict[str, object]()["missing"],
    "unprintable": lambda: (_ for _ in ()).throw(Unprintable()),
    "set": lambda: {1, 2},
    "object": lambda: object(),
    "object inside": lambda: {"items": [1, {"when": object()}]},
    "Counter": lambda: Counter("aab"),
    "sys.exit": lambda: sys.exit("enough"),
    "os._exit": lambda: os._exit(1),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "generator exit": lambda: (_ for _ in ()).throw(GeneratorExit()),
    "keyboard interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "recursion": lambda: _recurse(),
    "bad headers": lambda: context.headers.update({"crew-outcome": "expired"}),
    "huge": lambda: os.urandom(17 * 1024 * 1024),
    "import error": lambda: __import__("no_such_module"),
}


def _recurse():
    return _recurse()


@task("bad")
def bad(kind):
    return BAD[kind]()


if __name__ == "__main__":
    run(counter=0)
