"""One page, two links: an item for one of the workers, an item for every subscriber. python gateway.py --port=8888"""

import asyncio
import itertools
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tornado.options import define, options, parse_command_line
from tornado.web import Application, RequestHandler

from crew import Client, CrewError, SettingsError
from crew.client import Event
from crew.gateway import AbandonMixin, serve

DRAIN = 1.0  # seconds for open requests to finish after SIGTERM; a long poll lasts until then


class Handler(AbandonMixin, RequestHandler):
    application: "Gateway"

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if isinstance(error, CrewError):
            self.set_status(503)
            self.finish(f"{type(error).__name__}: {error}")
        else:
            super().write_error(status_code, **kwargs)


class Page(Handler):
    def get(self) -> None:
        self.render("page.html")


class ProdCons(Handler):
    """Calls a task: its queue gives the item to one free worker."""

    async def get(self) -> None:
        item = next(self.application.items)
        self.write(await self.application.crew.call("consume", item, expiration=5))


class PubSub(Handler):
    """Publishes an event: every subscriber of its topic gets the item."""

    async def get(self) -> None:
        item = next(self.application.items)
        await self.application.crew.publish("items", item)
        self.write({"item": item, "published on": "items"})


class Taken(Handler):
    """Server-sent events for the page: which process received which item, from now on."""

    async def get(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        with closing(self.application.crew.subscribe("taken", self.events.put_nowait)) as subscription:
            await subscription.ready()
            self.set_header("Content-Type", "text/event-stream")
            self.flush()
            while event := await self.events.get():
                self.write(f"data: {json.dumps(event.payload)}\n\n")
                self.flush()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.events.put_nowait(None)


class Gateway(Application):
    def __init__(self) -> None:
        super().__init__(
            [("/", Page), ("/prodcons", ProdCons), ("/pubsub", PubSub), ("/taken", Taken)],
            template_path=str(Path(__file__).parent),
        )
        self.crew = Client()
        self.items = itertools.count(1)


async def main() -> None:
    gateway = Gateway()
    await serve(
        gateway,
        gateway.crew,
        port=options.port,
        drain=DRAIN,
        on_listening=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    define("port", 8888, help="port on 127.0.0.1; 0 takes a free one")
    parse_command_line()
    try:
        asyncio.run(main())
    except SettingsError as error:
        sys.exit(str(error))
