"""The handlers of the article, with `yield` and without, as an application builds them before its loop runs."""

import functools
from collections.abc import Callable, Generator
from typing import Any, ClassVar

from tornado import gen
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from crew import Client, ExpirationError, TimeoutError
from crew.client import Event


def asynchronous(method: Callable[..., Any]) -> Callable[..., Any]:
    """As `tornado.web.asynchronous` was: the handler calls `finish` itself, later."""

    @functools.wraps(method)
    def wrapper(self: RequestHandler, *args: Any, **kwargs: Any) -> None:
        self._auto_finish = False
        method(self, *args, **kwargs)

    return wrapper


class Handler(RequestHandler):
    application: "Master"


class MainHandler(Handler):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        resp = yield self.application.crew.call("test", "*" * 1_000_000, priority=100)
        self.write(f"{type(resp).__name__}: {resp}")


class StatHandler(Handler):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        resp = yield self.application.crew.call("stat", persistent=False, priority=0)
        self.write(f"{type(resp).__name__}: {resp}")


class StatHandler2(Handler):
    @asynchronous
    def get(self) -> None:
        self.application.crew.call("stat", callback=self._on_response, persistent=False, priority=0)

    def _on_response(self, resp: Any, headers: dict[str, Any]) -> None:
        self.write(f"{type(resp).__name__}: {resp}")
        self.finish()


class FastHandler(Handler):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        try:
            resp = yield self.application.crew.call("dead", persistent=False, priority=255, expiration=1)
            self.write(f"{type(resp).__name__}: {resp}")
        except TimeoutError:
            self.write("Timeout")
        except ExpirationError:
            self.write("All workers are gone")


class FireHandler(Handler):
    """Makes a call and does not await it."""

    def post(self) -> None:
        self.application.crew.call("publish", self.request.body)


class LongPollingHandler(Handler):
    LISTENERS: ClassVar[list[Callable[[Event], None]]] = []

    @asynchronous
    def get(self) -> None:
        self.LISTENERS.append(self.response)

    def response(self, event: Event) -> None:
        self.finish(event.payload)

    @classmethod
    def responder(cls, event: Event) -> None:
        listeners, cls.LISTENERS = cls.LISTENERS, []
        for listener in listeners:
            listener(event)


class ListenersHandler(Handler):
    """The number of waiting requests, and the state of the subscription. It does not use the client."""

    def get(self) -> None:
        self.write(f"{len(LongPollingHandler.LISTENERS)} for {self.application.subscription!r}")


class PublishHandler(Handler):
    """Lets a worker publish."""

    @gen.coroutine
    def post(self) -> Generator[Any, Any, None]:
        resp = yield self.application.crew.call("publish", self.request.body)
        self.finish(str(resp))


class PublishHandler2(Handler):
    """Publishes without `yield`."""

    def post(self) -> None:
        self.application.crew.publish("test", self.request.body)


class PublishHandler3(Handler):
    """Publishes with `yield`."""

    @gen.coroutine
    def post(self) -> Generator[Any, Any, None]:
        yield self.application.crew.publish("test", self.request.body)


class WrongHandler(Handler):
    """Publishes with an invalid topic: the error is raised in the handler."""

    def post(self) -> None:
        self.application.crew.publish("", self.request.body)


class ParallelHandler(Handler):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        with self.application.crew.parallel() as mc:
            mc.call("test", "*")
            mc.call("stat")
            test_result, stat_result = yield mc.result()
        self.write(f"Test result: {test_result}\nStat result: {stat_result}")


class Master(Application):
    def __init__(self) -> None:
        handlers: list[Any] = [
            ("/", MainHandler),
            ("/stat", StatHandler),
            ("/stat2", StatHandler2),
            ("/fast", FastHandler),
            ("/fire", FireHandler),
            ("/subscribe", LongPollingHandler),
            ("/listeners", ListenersHandler),
            ("/publish", PublishHandler),
            ("/publish2", PublishHandler2),
            ("/publish3", PublishHandler3),
            ("/wrong", WrongHandler),
            ("/parallel", ParallelHandler),
        ]
        super().__init__(handlers)
        self.crew = Client()
        self.subscription = self.crew.subscribe("test", LongPollingHandler.responder)
        self.crew.connect()


def main() -> None:
    application = Master()
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(application).add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    IOLoop.current().start()


if __name__ == "__main__":
    main()
