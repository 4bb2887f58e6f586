"""The long task of abandon_app.py; it prints its start, its interrupt and its end: python abandon_worker.py"""

import os
import time
from typing import Any

from crew import Interrupt
from crew.worker import Task, run

STEP = 0.02  # seconds; with --threads a sleep must end before its interrupt


def say(*words: object) -> None:
    """Print one line in one write, so that lines of several threads do not mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@Task("sleep")
def sleep(data: dict[str, Any]) -> str:
    """Sleep for the seconds in the payload."""
    name, until = data["name"], time.monotonic() + data["seconds"]
    try:
        say("STARTED", name)
        while time.monotonic() < until:
            time.sleep(STEP)
    except Interrupt as interrupt:
        say("INTERRUPTED", name, interrupt.reason, time.time())
        raise
    finally:
        say("ENDED", name)
    return f"slept as {name}"


if __name__ == "__main__":
    run()
