"""Calls end with the HTTP request that waits for them: nothing runs for a client that has gone.

Tornado tells a handler by `on_connection_close` that its client has gone before the answer was complete. The calls
that the handler has made, or waits for, are then given up, but for those for which another request waits as well. The
handler sees Canceled where it waits, which is its end: it is no error, and one line of the access log tells of it, with
the status 499.
"""

import functools
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Final

from tornado.iostream import IOStream
from tornado.log import access_log, app_log
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from crew.client import PendingCall, Scope
from crew.errors import is_abandonment
from crew.gateway import metrics

WHY: Final = "the HTTP client has gone"
CLIENT_CLOSED_REQUEST: Final = 499  # status for logs and counters, as nginx has it: nobody is left to receive it
SWITCHING_PROTOCOLS: Final = 101


class AbandonMixin(RequestHandler):
    """For handlers that call tasks: when the HTTP client goes, so do the calls.

    class Resize(AbandonMixin, RequestHandler):
        async def get(self):
            self.write(await crew.call("resize", {"width": 640}))

    It comes first among the bases. A handler with a `prepare` (no `gen.coroutine`: its context ends with it),
    `on_connection_close`, `on_finish` or `detach` of its own calls that of `super()`. It serves coroutines,
    `gen.coroutine`, callbacks and WebSockets, which are one request from the handshake to the close.

    What has to run all the same, although the client has gone, belongs in a scope of its own: `with Scope(): ...`
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._crew_scope = Scope()  # before Tornado's own, since the client may go before `prepare`
        super().__init__(*args, **kwargs)

    def prepare(self) -> Awaitable[None] | None:
        """Make calls on behalf of this request from now on: in the context of the whole handler."""
        self._crew_scope.enter()
        return super().prepare()

    def on_connection_close(self) -> None:
        """Give the calls up."""
        _abandon(self._crew_scope)
        with Scope():  # what a handler does now, it does because its client has gone
            super().on_connection_close()

    def on_finish(self) -> None:
        """Let go of calls that the handler has not waited for: they go on."""
        if self.get_status() != SWITCHING_PROTOCOLS:  # a WebSocket begins here
            self._crew_scope.close()
        super().on_finish()

    def detach(self) -> IOStream:
        """Watch the stream of a WebSocket: while a message waits for its call, Tornado does not."""
        stream = super().detach()
        stream.set_close_callback(functools.partial(_abandon, self._crew_scope))
        return stream

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Finish without an answer where Canceled has ended a handler whose client has gone."""
        _, error, _ = kwargs.get("exc_info", (None, None, None))
        if not self._was_ended_by(error):
            super().send_error(status_code, **kwargs)
        elif not self._finished:
            if not self._headers_written:
                self.clear()
                self.set_status(CLIENT_CLOSED_REQUEST, "Client Closed Request")
            self.finish()

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Canceled is no error where the client has gone."""
        if not self._was_ended_by(value):
            super().log_exception(typ, value, tb)

    def _log(self) -> None:
        """The line of the access log: a client that leaves is no reason for a warning."""
        if self._crew_scope.is_abandoned and not _logs_in_its_own_way(self.application):
            took = 1000.0 * self.request.request_time()
            access_log.info("%d %s %.2fms", self.get_status(), self._request_summary(), took)
        else:
            super()._log()

    def _was_ended_by(self, error: BaseException | None) -> bool:
        return self._crew_scope.is_abandoned and is_abandonment(error)


def cancel_when_abandoned(handler: RequestHandler, *calls: PendingCall) -> None:
    """Give `calls` up when the HTTP client of `handler` goes, for handlers that cannot have the mixin.

    A call that is given to several handlers is cancelled when the last of their clients has gone. Whoever awaits it
    gets Canceled, and its callback hears of it. The handler's own `on_connection_close` is called as ever.

    Args:
        handler: a request in progress. Where its client has gone already, the calls are cancelled at once.
        calls: what was called for this request alone, or for several handlers, each of which says so.

    Raises:
        TypeError: the handler is a WebSocket's; give that AbandonMixin.
    """
    if isinstance(handler, WebSocketHandler) and not isinstance(handler, AbandonMixin):
        name = type(handler).__name__
        raise TypeError(f"{name} is a WebSocketHandler: give it AbandonMixin as its first base instead")
    scope = _scope_of(handler)
    for call in calls:
        scope.add(call, wholly=True)


def _scope_of(handler: RequestHandler) -> Scope:
    """The handler's scope: that of the mixin, or one that is made the first time."""
    scope: Scope | None = getattr(handler, "_crew_scope", None)
    if scope is None:
        scope = Scope()
        handler._crew_scope = scope  # type: ignore[attr-defined]  # it lives as long as the handler
        _watch(handler, scope)
    return scope


def _watch(handler: RequestHandler, scope: Scope) -> None:
    """Abandon the scope when the client goes, in front of the handler's own `on_connection_close`."""
    connection: Any = handler.request.connection  # the interface of HTTPConnection lacks what Tornado itself uses

    def on_close() -> None:
        _abandon(scope)
        handler.on_connection_close()

    connection.set_close_callback(on_close)
    if connection.stream is None or connection.stream.closed():  # it was called before
        _abandon(scope)


def _abandon(scope: Scope) -> None:
    was_waiting = scope.in_flight > 0
    canceled = scope.abandon(WHY)
    if was_waiting:
        metrics.count(canceled)


def _logs_in_its_own_way(application: Application) -> bool:
    return "log_function" in application.settings or type(application).log_request is not Application.log_request


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of Tornado's log tells more than that a client has gone.

    Tornado logs what a handler lets pass, and all but the first failure of `yield [call, call]`.
    """
    return not (record.exc_info and is_abandonment(record.exc_info[1]))


app_log.addFilter(_is_news)
