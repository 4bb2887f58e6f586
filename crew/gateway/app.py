"""crew's own routes, for any Tornado application."""

import re
from typing import Final

from tornado.routing import URLSpec

from crew.client import Client
from crew.gateway.call_api import MAX_EXPIRATION, CallHandler
from crew.protocol import deadline

_PREFIX: Final = re.compile(r"(/[^/]+)*")


def routes(
    client: Client, *, prefix: str = "", max_expiration: float = MAX_EXPIRATION, max_body: int | None = None
) -> list[URLSpec]:
    """crew's handlers, to mount in an application: `Application(routes(client, prefix="/crew") + [...])`.

        POST <prefix>/call/<task>       calls the task, waits, and answers with its value: see `CallHandler`

    Nothing here asks who calls, and every task of the broker can be called: the application that mounts them decides
    who may reach them, by what stands in front of it or by a subclass of the handler. Where browsers log in with a
    cookie, its `xsrf_cookies` setting protects these handlers too.

    Args:
        client: makes the calls; the application connects and closes it.
        prefix: of every path: "" or "/crew".
        max_expiration: seconds that a request may ask for, and gets where it asks for none (at most 60 then).
        max_body: bytes that the body of a request may have; by default, and at most, those that can travel: 16 MiB,
            or what CREW_MAX_MESSAGE says.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f'prefix must be "" or begin with a slash and end without one, not {prefix!r}')
    limits = {
        "max_expiration": deadline.check_duration("max_expiration", max_expiration),
        "max_body": _check_max_body(max_body, client.max_message),
    }
    return [URLSpec(re.escape(prefix) + r"/call/(.+)", CallHandler, {"client": client, **limits})]


def _check_max_body(value: int | None, most: int) -> int:
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"max_body must be an int from 1 to {most} bytes, not {value!r}")
    return value
