"""crew's own routes, for any Tornado application."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from tornado.routing import URLSpec

from crew import settings
from crew.client import Client
from crew.gateway.calls.call_api import CallHandler
from crew.gateway.jobs.url_guard import UrlGuard
from crew.gateway.openapi import document
from crew.gateway.openapi.document import OpenApiHandler
from crew.gateway.status_api import HealthHandler, ReadyHandler
from crew.limits import GatewayLimits
from crew.limits import load as load_limits
from crew.protocol import deadline
from crew.protocol.http_job.allowed_hosts import AllowedHosts

if TYPE_CHECKING:
    from crew.jobs import JobStore

_PREFIX: Final = re.compile(r"(/[^/]+)*")


def routes(
    client: Client,
    store: "JobStore | None" = None,
    *,
    prefix: str = "",
    max_expiration: float | None = None,
    max_body: int | None = None,
    fail_fast: bool | None = None,
    allow_hosts: Sequence[str] = (),
    deny_hosts: Sequence[str] = (),
    limits: GatewayLimits | None = None,
) -> list[URLSpec]:
    """crew's handlers, to mount in an application: `Application(routes(client, prefix="/crew") + [...])`.

        POST <prefix>/call/<task>       calls the task, waits, and answers with its value: see `CallHandler`
        GET <prefix>/healthz            200 while the process is alive
        GET <prefix>/readyz             200 while a call would be sent at once and a job recorded, else 503
        GET <prefix>/openapi.json       describes all of this for programs, as OpenAPI 3.1 has it

    Where the client has jobs, or a store is given for them, POST <prefix>/call/<task> heeds `Prefer` (see
    `JobCallHandler`), and there are:

        POST <prefix>/jobs/                     submits a job: see `JobsHandler`
        GET <prefix>/jobs/                      lists jobs, the newest first
        GET <prefix>/jobs/<uuid>/               its record
        GET <prefix>/jobs/<uuid>/status/        its status
        GET <prefix>/jobs/<uuid>/response/      waits for its end, and answers with its value
        GET <prefix>/jobs/<uuid>/events         tells of its changes: server-sent events, or a long poll
        DELETE <prefix>/jobs/<uuid>/response/   deletes the value
        DELETE <prefix>/jobs/<uuid>/            cancels it, or deletes the value of one that has ended

    `HEAD` is answered as `GET` is, without the body, but by the events.

    Nothing here asks who calls, and every task of the broker can be called: the application that mounts them decides
    who may reach them, by what stands in front of it or by a subclass of the handler. Where browsers log in with a
    cookie, its `xsrf_cookies` setting protects these handlers too.

    Args:
        client: makes the calls; the application connects and closes it.
        store: where jobs are recorded, unless the client has a store already; the client opens and closes it.
        prefix: of every path: "" or "/crew".
        max_expiration: seconds that a request may ask for, and gets where it asks for none (at most 60 then). Default:
            what `limits` say.
        max_body: bytes that the body of a request may have; by default, and at most, those that can travel: 16 MiB,
            or what CREW_MAX_MESSAGE says.
        fail_fast: while the broker is away answer 503 at once, rather than wait for it within the request's
            `expiration`. Default: as the client was told.
        allow_hosts: internal hosts that URL jobs may be submitted for: see `crew worker --allow-host`, which decides.
            Default: what CREW_ALLOW_HOSTS says.
        deny_hosts: public hosts that URL jobs may not be submitted for: see `crew worker --deny-host`, which decides.
            Default: what CREW_DENY_HOSTS says.
        limits: of what calls and jobs may ask for, of the jobs that may be queued and running, and of pages. Default:
            those of the environment, see `crew.limits`.

    Raises:
        ValueError: an argument is out of its range.
        SettingsError: a limit in the environment cannot be used.
    """
    bounds = load_limits() if limits is None else limits
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f'prefix must be "" or begin with a slash and end without one, not {prefix!r}')
    expiration = bounds.max_expiration if max_expiration is None else max_expiration
    of_calls = {
        "max_expiration": deadline.check_duration("max_expiration", expiration),
        "max_timeout": bounds.max_timeout,
        "max_body": _check_max_body(max_body, client.max_message),
    }
    if store is not None:
        client.keep_jobs_in(store)
    guard = UrlGuard(AllowedHosts.of(settings.allow_hosts(allow_hosts), settings.deny_hosts(deny_hosts)))
    calls = {"client": client, "fail_fast": fail_fast, "guard": guard, **of_calls}
    path = re.escape(prefix)
    described = document.document(prefix, max_expiration=expiration, has_jobs=client.has_jobs, max_page=bounds.max_page)
    return [
        *_routes_of_jobs(client, prefix, calls, bounds),
        URLSpec(path + r"/call/(.+)", CallHandler, calls),
        URLSpec(path + r"/healthz", HealthHandler),
        URLSpec(path + r"/readyz", ReadyHandler, {"client": client}),
        URLSpec(path + r"/openapi\.json", OpenApiHandler, {"document": msgspec.json.encode(described)}),
    ]


def _routes_of_jobs(client: Client, prefix: str, calls: dict[str, Any], bounds: GatewayLimits) -> list[URLSpec]:
    """Those that are there only where jobs are; they come before the others."""
    if not client.has_jobs:
        return []
    from crew.gateway.jobs.job_api import JobHandler, JobResponseHandler, JobStatusHandler
    from crew.gateway.jobs.job_call_api import JobCallHandler
    from crew.gateway.jobs.job_events import JobEventsHandler
    from crew.gateway.jobs.job_limits import JobLimits
    from crew.gateway.jobs.jobs_api import JobsHandler

    path, root = re.escape(prefix), f"{prefix}/jobs/"
    common = {"jobs": client.jobs, "root": root}
    limits = JobLimits(client.jobs, bounds)
    return [
        URLSpec(path + r"/call/(.+)", JobCallHandler, {**calls, **common, "limits": limits}),
        URLSpec(
            path + r"/jobs/?",
            JobsHandler,
            {**common, "client": client, "guard": calls["guard"], "limits": limits, "max_body": calls["max_body"]},
        ),
        URLSpec(path + r"/jobs/([^/]+)/?", JobHandler, common),
        URLSpec(path + r"/jobs/([^/]+)/status/?", JobStatusHandler, common),
        URLSpec(path + r"/jobs/([^/]+)/response/?", JobResponseHandler, common),
        URLSpec(path + r"/jobs/([^/]+)/events/?", JobEventsHandler, common),
    ]


def _check_max_body(value: int | None, most: int) -> int:
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"max_body must be an int from 1 to {most} bytes, not {value!r}")
    return value
