"""Cancels the calls of an HTTP request when its client disconnects.

Tornado calls `on_connection_close` when a client disconnects before the response is complete. The calls that the
handler has made, or waits for, are then canceled, except those that another request waits for, too. The waiting handler
gets Canceled and ends. That is not an error: it is one line in the access log, with status 499.
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

REASON: Final = "the HTTP client disconnected"
CLIENT_CLOSED_REQUEST: Final = 499  # nginx's status for its log; no client receives it
SWITCHING_PROTOCOLS: Final = 101


class AbandonMixin(RequestHandler):
    """For handlers that call tasks: cancels their calls when the HTTP client disconnects.

    class Resize(AbandonMixin, RequestHandler):
        async def get(self):
            self.write(await crew.call("resize", {"width": 640}))

    Put it first among the bases. If the handler has its own `prepare`, `on_connection_close`, `on_finish` or `detach`,
    it must call `super()`. Its `prepare` must not be a `gen.coroutine`, which runs in a context of its own. Coroutines,
    `gen.coroutine`, callbacks and WebSockets work. A WebSocket is one request from the handshake to the close.

    Calls that must run even if the client disconnects belong in a scope of their own: `with Scope(): ...`
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._crew_scope = Scope()  # before Tornado's own setup: the client may disconnect before `prepare`
        super().__init__(*args, **kwargs)

    def prepare(self) -> Awaitable[None] | None:
        """Enter the scope of this request, for the whole handler."""
        self._crew_scope.enter()
        return super().prepare()

    def on_connection_close(self) -> None:
        """Cancel the calls."""
        _abandon(self._crew_scope)
        with Scope():  # calls that the handler makes now are clean-up, and must run
            super().on_connection_close()

    def on_finish(self) -> None:
        """Release the calls that the handler has not waited for: they go on."""
        if self.get_status() != SWITCHING_PROTOCOLS:  # a WebSocket starts here
            self._crew_scope.close()
        super().on_finish()

    def detach(self) -> IOStream:
        """Watch the stream of a WebSocket: Tornado does not, while a message handler waits for its call."""
        stream = super().detach()
        stream.set_close_callback(functools.partial(_abandon, self._crew_scope))
        return stream

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Finish without a response if Canceled has ended a handler whose client disconnected."""
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
        """Log an exception, except Canceled after the client disconnected."""
        if not self._was_ended_by(value):
            super().log_exception(typ, value, tb)

    def _log(self) -> None:
        """Write the line of the access log: at INFO, not as a warning, if the client disconnected."""
        if self._crew_scope.is_abandoned and not _has_custom_access_log(self.application):
            took = 1000.0 * self.request.request_time()
            access_log.info("%d %s %.2fms", self.get_status(), self._request_summary(), took)
        else:
            super()._log()

    def _was_ended_by(self, error: BaseException | None) -> bool:
        return self._crew_scope.is_abandoned and is_abandonment(error)


def cancel_when_abandoned(handler: RequestHandler, *calls: PendingCall[Any]) -> None:
    """Cancel `calls` when the HTTP client of `handler` disconnects. For handlers that cannot use AbandonMixin.

    A call that several handlers have passed here is canceled when the last of their clients has disconnected. Its
    waiters and its callback get Canceled. The handler's own `on_connection_close` is still called.

    Args:
        handler: a request in progress. If its client has already disconnected, the calls are canceled at once.
        calls: calls for this request only; or for several, if each handler passes them here.

    Raises:
        TypeError: the handler is a WebSocketHandler; use AbandonMixin.
    """
    if isinstance(handler, WebSocketHandler) and not isinstance(handler, AbandonMixin):
        name = type(handler).__name__
        raise TypeError(f"{name} is a WebSocketHandler: give it AbandonMixin as its first base instead")
    scope = _scope_of(handler)
    for call in calls:
        scope.add(call, wholly=True)


def _scope_of(handler: RequestHandler) -> Scope:
    """The scope of the mixin, or one that is created for the handler."""
    scope: Scope | None = getattr(handler, "_crew_scope", None)
    if scope is None:
        scope = Scope()
        handler._crew_scope = scope  # type: ignore[attr-defined]  # it lives as long as the handler
        _watch(handler, scope)
    return scope


def _watch(handler: RequestHandler, scope: Scope) -> None:
    """Abandon the scope when the client disconnects, before the handler's own `on_connection_close` is called."""
    connection: Any = handler.request.connection  # the interface of HTTPConnection lacks these attributes

    def on_close() -> None:
        _abandon(scope)
        handler.on_connection_close()

    connection.set_close_callback(on_close)
    if connection.stream is None or connection.stream.closed():  # the callback will not be called again
        _abandon(scope)


def _abandon(scope: Scope) -> None:
    was_waiting = scope.in_flight > 0
    canceled = scope.abandon(REASON)
    if was_waiting:
        metrics.count_abandoned(canceled)


def _has_custom_access_log(application: Application) -> bool:
    return "log_function" in application.settings or type(application).log_request is not Application.log_request


def _is_no_abandonment(record: logging.LogRecord) -> bool:
    """Filter of Tornado's log: suppresses Canceled of abandoned requests.

    Tornado logs exceptions that a handler does not catch, and all but the first of `yield [call, call]`.
    """
    return not (record.exc_info and is_abandonment(record.exc_info[1]))


app_log.addFilter(_is_no_abandonment)
