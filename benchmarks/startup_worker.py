"""The worker of `startup.py`: `CREW_BENCHMARK_TASKS` echo tasks, named `<prefix>.0` and so on."""

import os
from typing import Any

from crew.worker import Task, run


def echo(data: Any) -> Any:
    """Return the payload."""
    return data


for number in range(int(os.environ["CREW_BENCHMARK_TASKS"])):
    Task(f"{os.environ['CREW_BENCHMARK_PREFIX']}.{number}")(echo)

if __name__ == "__main__":
    run()
