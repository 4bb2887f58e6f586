"""Tasks for the tests of lost workers and of long tasks: a worker script. Each prints its start."""

import ctypes
import os
import signal
import time

from crew.worker import HandlerClass, Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


def say(*words):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


DEATHS = {
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does when memory runs out
    "real-time signal": lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3),  # a signal without a name
}


def die(kind):
    say("STARTED", context.id, context.attempt)
    DEATHS[kind]()


Task(PREFIX + "die")(die)
Task(PREFIX + "die.long", long=True)(die)


@Task(PREFIX + "sleep")
def sleep(seconds):
    say("STARTED", context.id, context.attempt)
    time.sleep(seconds)
    say("DONE", context.id)
    return os.getpid()


@Task(PREFIX + "long", long=True)
def long(seconds):
    return sleep(seconds)


@Task(PREFIX + "long.naps", long=True)
def naps(seconds):
    """Prints its interrupt."""
    try:
        return sleep(seconds)
    except SystemExit as interrupt:
        say("INTERRUPTED", context.id, interrupt.reason)
        raise


@Task(PREFIX + "long.stubborn", long=True)
def stubborn(seconds):
    """Runs on after its interrupt."""
    say("STARTED", context.id, context.attempt)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except SystemExit:
            say("INTERRUPTED")


class Tried(HandlerClass):
    """Raises in its first execution."""

    def process(self):
        say("STARTED", context.id, context.attempt)
        if context.attempt == 1:
            raise OSError("not yet")
        return context.attempt


Tried.bind(PREFIX + "long.tried", long=True, retries=1, backoff=(0.1, 1))


@Task(PREFIX + "who")
def who(data):
    return os.getpid()


@Task(PREFIX + "freeze")
def freeze(data):
    """Waits in C for a mutex that it holds itself, with the GIL held: no other thread of the process runs again."""
    say("STARTED", context.id, context.attempt)
    c, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)


if __name__ == "__main__":
    run()
