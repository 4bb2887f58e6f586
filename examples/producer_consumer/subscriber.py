"""Receives every item on the topic, like all other subscribers. Start it several times: python subscriber.py"""

import asyncio
import os
import signal

from crew import Client
from crew.client import Event


async def main() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async with Client() as client:

        async def on_item(event: Event) -> None:
            taken = {"item": event.payload, "from": "topic", "by": f"subscriber {os.getpid()}"}
            await client.publish("taken", taken)

        await client.subscribe("items", on_item).ready()
        print(f"subscriber {os.getpid()} listens", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
