"""A Tornado application that calls tasks in worker processes: python master.py --port=8888"""

import asyncio
import sys
from collections.abc import Generator
from contextlib import closing
from typing import Any

from tornado import gen
from tornado.options import define, options, parse_command_line
from tornado.web import Application, RequestHandler

from crew import Client, CrewError, ExpirationError, SettingsError, TimeoutError, UnknownTask
from crew.client import Event
from crew.gateway import AbandonMixin, serve

DRAIN = 1.0  # seconds for open requests to finish after SIGTERM; a long poll lasts until then


class Handler(AbandonMixin, RequestHandler):
    application: "Gateway"

    @property
    def crew(self) -> Client:
        return self.application.crew

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if isinstance(error, CrewError):
            self.set_status(503)
            self.finish(f"{type(error).__name__}: {error}")
        else:
            super().write_error(status_code, **kwargs)


class Main(Handler):
    """A large payload, with a higher priority than most calls."""

    async def get(self) -> None:
        self.write(await self.crew.call("test", "*" * 1_000_000, priority=100))


class Stat(Handler):
    """A call from a `gen.coroutine`, the older style of Tornado."""

    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        stat = yield self.crew.call("stat", persistent=False)
        self.write(stat)


class Stat2(Handler):
    """A call with a callback; after a failure the value is an exception."""

    def get(self) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = asyncio.Future()

        def on_reply(value: Any, headers: dict[str, Any]) -> None:
            self.write({"stat": str(value) if isinstance(value, CrewError) else value, "headers": headers})
            answered.set_result(None)

        self.crew.call("stat", persistent=False, callback=on_reply)
        return answered


class Fast(Handler):
    """A call of a task that never ends: TimeoutError after three seconds."""

    async def get(self) -> None:
        try:
            await self.crew.call("dead", persistent=False, priority=255, expiration=3)
        except TimeoutError:
            self.write("Timeout")
        except (ExpirationError, UnknownTask):
            self.write("All workers are gone")  # no worker started the task in time, or none has ever served it


class Subscribe(Handler):
    """Long poll: waits for the next event, or until the browser disconnects."""

    async def get(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        with closing(self.crew.subscribe("news", self.events.put_nowait)):
            event = await self.events.get()
        if event:
            self.write(event.payload)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.events.put_nowait(None)


class Publish(Handler):
    """A worker publishes an event."""

    async def get(self) -> None:
        self.write(await self.crew.call("publish", self.get_argument("text", "hello")))


class Publish2(Handler):
    """The gateway publishes an event."""

    async def get(self) -> None:
        await self.crew.publish("news", self.get_argument("text", "hello"))
        self.write("published by the gateway")


class Parallel(Handler):
    """Two calls at the same time: the second fails, and the value of the first is available nevertheless."""

    async def get(self) -> None:
        with self.crew.parallel() as calls:
            calls.call("divide", [1, 2])
            calls.call("divide", [1, 0])
        half, failure = await calls.result()
        self.write({"1/2": half, "1/0": str(failure)})


class Gateway(Application):
    def __init__(self) -> None:
        super().__init__(
            [
                ("/", Main),
                ("/stat", Stat),
                ("/stat2", Stat2),
                ("/fast", Fast),
                ("/subscribe", Subscribe),
                ("/publish", Publish),
                ("/publish2", Publish2),
                ("/parallel", Parallel),
            ]
        )
        self.crew = Client()


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
