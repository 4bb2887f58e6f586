"""Tasks for the tests of retries: a worker script. Each prints its attempt and the time."""

import os
import time

from crew.worker import HandlerClass, Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


def say(*words):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def fail_until(succeeds_on, error=OSError):
    """Raises before attempt number `succeeds_on`."""
    say("ATTEMPT", context.task.removeprefix(PREFIX), context.attempt, f"{time.time():.3f}")
    if context.attempt < succeeds_on:
        raise error(f"attempt {context.attempt} fails")
    return {"attempt": context.attempt, "pid": os.getpid()}


@Task(PREFIX + "flaky", retries=3, backoff=(0.3, 60), retry_on=(OSError,))
def flaky(succeeds_on):
    return fail_until(succeeds_on)


class Patient(HandlerClass):
    def process(self):
        return fail_until(self.payload)


Patient.bind(PREFIX + "patient", retries=1, backoff=(5, 5))  # long enough to query the broker meanwhile


@Task(PREFIX + "later", retries=1, backoff=(2, 2))
def later(succeeds_on):
    return fail_until(succeeds_on)


@Task(PREFIX + "other", retries=3, backoff=(0.3, 60), retry_on=(OSError,))
def other(succeeds_on):
    return fail_until(succeeds_on, error=KeyError)


@Task(PREFIX + "fragile", retries=1, backoff=(0.3, 60))
def fragile(kills):
    """Raises, then kills its process `kills` times, then succeeds."""
    if 1 < context.attempt <= 1 + kills:
        os._exit(1)
    return fail_until(2)


@Task(PREFIX + "slow", retries=3, backoff=(0.3, 60))
def slow(seconds):
    say("SLOW", context.attempt)
    time.sleep(seconds)


@Task(PREFIX + "echo")
def echo(data):
    return data


if __name__ == "__main__":
    run()
