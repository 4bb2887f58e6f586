"""A worker whose tasks call other tasks through a client at module level, which is used before the worker forks."""

import os
import sys
from typing import Any

from crew.client.blocking import Client
from crew.worker import Task, run

PREFIX = os.environ["CREW_TEST_PREFIX"]

client = Client()
client.call(os.environ["CREW_TEST_ECHO"], "at import").result()


@Task(PREFIX + "relay")
def relay(data: Any) -> dict[str, Any]:
    return {"value": client.call(os.environ["CREW_TEST_ECHO"], data).result(), "id": client.id, "pid": os.getpid()}


if __name__ == "__main__":
    sys.exit(run())
