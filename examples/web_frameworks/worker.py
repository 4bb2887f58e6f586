"""The tasks that all sites of this folder call. python worker.py; or: crew worker worker.py"""

import time
from typing import Any

from crew.worker import Task, context, run


@Task("add")
def add(numbers: list[float]) -> float:
    return sum(numbers)


@Task("report")
def report(order: dict[str, Any]) -> dict[str, Any]:
    """Takes a moment for each row, and says how far it is."""
    rows = int(order["rows"])
    for row in range(rows):
        context.progress({"row": row, "of": rows})
        time.sleep(float(order.get("seconds", 0.05)))
    return {"rows": rows, "title": order.get("title", "untitled")}


if __name__ == "__main__":
    run()
