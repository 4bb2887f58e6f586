"""The worker of `depth.py`: its task says how many other calls have started since an urgent call was made."""

import time
from typing import Any

from crew.worker import Task, run

starts: list[float] = []  # epoch seconds


@Task("scale.depth")
def depth(data: Any) -> Any:
    """Return how many runs have started since `data["since"]`, this one not counted; else sleep `data["sleep"]`."""
    since = data.get("since")
    if since is not None:
        return sum(start >= since for start in starts[-1000:])
    starts.append(time.time())
    time.sleep(data["sleep"])
    return None


if __name__ == "__main__":
    run()
