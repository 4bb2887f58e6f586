"""Takes items from the queue: each item goes to one of the processes. python worker.py --processes 3"""

import os
from typing import Any

from crew.worker import Task, context, run


@Task("consume")
def consume(item: int) -> dict[str, Any]:
    taken = {"item": item, "from": "queue", "by": f"worker {os.getpid()}"}
    context.pubsub.publish("taken", taken)
    return taken


if __name__ == "__main__":
    run()
