"""Requests that end when the gateway does: it tells them by closing, and does not wait for them before."""

import weakref
from typing import Final

from tornado.httputil import HTTPConnection, HTTPServerRequest

_CONNECTIONS: Final["weakref.WeakSet[HTTPConnection]"] = weakref.WeakSet()


def add(request: HTTPServerRequest) -> None:
    """The answer to `request` ends with the gateway."""
    if request.connection is not None:
        _CONNECTIONS.add(request.connection)


def has(connection: object) -> bool:
    """Whether that is what the connection is busy with."""
    return connection in _CONNECTIONS
