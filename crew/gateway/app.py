"""crew's own routes, for any Tornado application."""

import re
from typing import Final

from tornado.routing import URLSpec

from crew.client import Client
from crew.gateway.call_api import MAX_EXPIRATION, CallHandler
from crew.gateway.status_api import HealthHandler, ReadyHandler
from crew.protocol import deadline

_PREFIX: Final = re.compile(r"(/[^/]+)*")


def routes(
    client: Client,
    *,
    prefix: str = "",
    max_expiration: float = MAX_EXPIRATION,
    max_body: int | None = None,
    fail_fast: bool | None = None,
) -> list[URLSpec]:
    """crew's handlers, to mount in an application: `Application(routes(client, prefix="/crew") + [...])`.

        POST <prefix>/call/<task>       calls the task, waits, and answers with its value: see `CallHandler`
        GET <prefix>/healthz            200 while the process is alive
        GET <prefix>/readyz             200 while a call would be on its way at once, else 503

    Nothing here asks who calls, and every task of the broker can be called: the application that mounts them decides
    who may reach them, by what stands in front of it or by a subclass of the handler. Where browsers log in with a
    cookie, its `xsrf_cookies` setting protects these handlers too.

    Args:
        client: makes the calls; the application connects and closes it.
        prefix: of every path: "" or "/crew".
        max_expiration: seconds that a request may ask for, and gets where it asks for none (at most 60 then).
        max_body: bytes that the body of a request may have; by default, and at most, those that can travel: 16 MiB,
            or what CREW_MAX_MESSAGE says.
        fail_fast: while the broker is away answer 503 at once, rather than wait for it within the request's
            `expiration`. Default: as the client was told.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f'prefix must be "" or begin with a slash and end without one, not {prefix!r}')
    limits = {
        "max_expiration": deadline.check_duration("max_expiration", max_expiration),
        "max_body": _check_max_body(max_body, client.max_message),
    }
    path = re.escape(prefix)
    return [
        URLSpec(path + r"/call/(.+)", CallHandler, {"client": client, "fail_fast": fail_fast, **limits}),
        URLSpec(path + r"/healthz", HealthHandler),
        URLSpec(path + r"/readyz", ReadyHandler, {"client": client}),
    ]


def _check_max_body(value: int | None, most: int) -> int:
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"max_body must be an int from 1 to {most} bytes, not {value!r}")
    return value
