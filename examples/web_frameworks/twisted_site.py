"""A site of twisted.web with crew's client on Twisted's asyncio reactor. python twisted_site.py 8080"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

from twisted.internet import asyncioreactor

asyncioreactor.install(asyncio.new_event_loop())  # before anything imports twisted.internet.reactor

from twisted.internet import endpoints, reactor  # noqa: E402
from twisted.internet.defer import CancelledError, Deferred  # noqa: E402
from twisted.python.failure import Failure  # noqa: E402
from twisted.web.resource import Resource  # noqa: E402
from twisted.web.server import NOT_DONE_YET, Request, Site  # noqa: E402

from crew import Client, ExpirationError, TimeoutError  # noqa: E402

client = Client()


def deferred(awaitable: Awaitable[Any]) -> Deferred[Any]:
    """What a call, a submit or a job returns, as Twisted has it."""
    return Deferred.fromFuture(asyncio.ensure_future(awaitable))


class Add(Resource):
    isLeaf = True  # noqa: N815  # Twisted's name

    def render_GET(self, request: Request) -> object:  # noqa: N802
        numbers = [float(number) for number in request.args.get(b"n", [])]
        answer = deferred(client.call("add", numbers, expiration=3))
        request.notifyFinish().addErrback(lambda _: answer.cancel())  # the browser has disconnected: so ends its call
        answer.addCallbacks(respond, fail, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET


def respond(value: Any, request: Request) -> None:
    request.setHeader(b"Content-Type", b"application/json")
    request.write(json.dumps({"sum": value}).encode())
    request.finish()


def fail(failure: Failure, request: Request) -> None:
    if failure.check(CancelledError):
        return
    status = 503 if failure.check(ExpirationError) else 504 if failure.check(TimeoutError) else 500
    request.setResponseCode(status)
    request.finish()


def main(port: str) -> None:
    client.connect()
    site = Resource()
    site.putChild(b"add", Add())
    listening = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(Site(site))
    listening.addCallback(lambda port: print(f"http://127.0.0.1:{port.getHost().port}", flush=True))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: deferred(client.close()))
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "8080")
