"""The HTTP API's routes, to be mounted in any Tornado application."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from tornado.routing import URLSpec

from crew import settings
from crew.client import Client
from crew.duration import Duration, parse_duration
from crew.gateway.calls.call_api import CallHandler
from crew.gateway.openapi import document
from crew.gateway.openapi.document import OpenApiHandler
from crew.gateway.status_api import HealthHandler, ReadyHandler
from crew.gateway.tasks_api import TaskHandler, TasksHandler
from crew.gateway.url_guard import UrlGuard
from crew.limits import GatewayLimits
from crew.limits import load as load_limits
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.signatures.registered import RegisteredTask, tasks_of
from crew.signatures.schema import schema_of

if TYPE_CHECKING:
    from crew.jobs import JobStore

_PREFIX: Final = re.compile(r"(/[^/]+)*")


def routes(
    client: Client,
    store: "JobStore | None" = None,
    *,
    prefix: str = "",
    max_expiration: Duration | None = None,
    max_body: int | None = None,
    fail_fast: bool | None = None,
    allow_hosts: Sequence[str] = (),
    deny_hosts: Sequence[str] = (),
    limits: GatewayLimits | None = None,
    tasks: "Iterable[RegisteredTask | Callable[..., Any]]" = (),
) -> list[URLSpec]:
    """The handlers of the HTTP API, to mount in an application: `Application(routes(client, prefix="/crew") + [...])`.

        POST <prefix>/call/<task>       calls the task, waits, and responds with its value: see `CallHandler`
        GET <prefix>/healthz            200 while the process is alive
        GET <prefix>/readyz             200 if a call can be sent at once and a job recorded, else 503
        GET <prefix>/openapi.json       description of this API as an OpenAPI 3.1 document

    With `tasks`, there are also:

        GET <prefix>/tasks/             these tasks, with the JSON Schema of their arguments and values
        GET <prefix>/tasks/<task>/      one of them

    If the client has a job store, or `store` is given, POST <prefix>/call/<task> supports the header `Prefer` (see
    `JobCallHandler`), and there are also:

        POST <prefix>/jobs/                     submits a job: see `JobsHandler`
        GET <prefix>/jobs/                      lists jobs, newest first
        GET <prefix>/jobs/<uuid>/               the record of a job
        GET <prefix>/jobs/<uuid>/status/        its status
        GET <prefix>/jobs/<uuid>/response/      waits until it ends, and responds with its value
        GET <prefix>/jobs/<uuid>/events         its changes: server-sent events, or a long poll
        DELETE <prefix>/jobs/<uuid>/response/   deletes its value
        DELETE <prefix>/jobs/<uuid>/            cancels it; if it has ended, deletes its value

    Every path with `GET` supports `HEAD`, except the events.

    These routes do not authenticate callers, and every task of the broker can be called. Put them behind your own
    authentication, or subclass the handlers. If browsers log in with a cookie, the application's `xsrf_cookies` setting
    protects these handlers, too.

    Args:
        client: makes the calls; the application connects and closes it.
        store: the job store, unless the client already has one; the client opens and closes it.
        prefix: of every path: "" or "/crew".
        max_expiration: seconds; the maximum of a request's `expiration`. If a request has none, it is 60 s or this
            maximum, whichever is smaller. Default: from `limits`.
        max_body: maximum bytes of a request's body. Default, and upper bound: the maximum message size, 16 MiB or
            CREW_MAX_MESSAGE.
        fail_fast: while the broker is unavailable, respond with 503 at once instead of waiting for it within the
            request's `expiration`. Default: the setting of the client.
        allow_hosts: internal hosts that URL jobs may request. The worker decides finally: see
            `crew worker --allow-host`. Default: CREW_ALLOW_HOSTS.
        deny_hosts: public hosts that URL jobs may not request. The worker decides finally: see
            `crew worker --deny-host`. Default: CREW_DENY_HOSTS.
        limits: limits of durations, of the number of queued and running jobs, and of pages. Default: from the
            environment, see `crew.limits`.
        tasks: functions with `@Task` above them, which the API describes. Other tasks can be called all the same.

    Raises:
        ValueError: an argument is out of its range, or one of `tasks` is no task.
        SettingsError: a limit in the environment is invalid.
    """
    bounds = load_limits() if limits is None else limits
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f'prefix must be "" or start with a slash and end without one, like "/crew", not {prefix!r}')
    expiration = parse_duration("max_expiration", bounds.max_expiration if max_expiration is None else max_expiration)
    call_limits = {
        "max_expiration": expiration,
        "max_timeout": bounds.max_timeout,
        "max_body": _check_max_body(max_body, client.max_message),
    }
    if store is not None:
        client.keep_jobs_in(store)
    guard = UrlGuard(AllowedHosts.of(settings.allow_hosts(allow_hosts), settings.deny_hosts(deny_hosts)))
    calls = {"client": client, "fail_fast": fail_fast, "guard": guard, **call_limits}
    path = re.escape(prefix)
    known = tasks_of(tasks)
    described = document.document(
        prefix, max_expiration=expiration, has_jobs=client.has_jobs, max_page=bounds.max_page, tasks=known
    )
    return [
        *_job_routes(client, prefix, calls, bounds),
        *_task_routes(path, known),
        URLSpec(path + r"/call/(.+)", CallHandler, calls),
        URLSpec(path + r"/healthz", HealthHandler),
        URLSpec(path + r"/readyz", ReadyHandler, {"client": client}),
        URLSpec(path + r"/openapi\.json", OpenApiHandler, {"document": msgspec.json.encode(described)}),
    ]


def _job_routes(client: Client, prefix: str, calls: dict[str, Any], bounds: GatewayLimits) -> list[URLSpec]:
    """The routes of jobs; none without a job store. They come first, as their `/call/` replaces the other one."""
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


def _task_routes(path: str, tasks: Mapping[str, RegisteredTask]) -> list[URLSpec]:
    """The routes that describe tasks; none without tasks."""
    if not tasks:
        return []
    described = {"tasks": {name: schema_of(task.signature) for name, task in tasks.items()}}
    return [
        URLSpec(path + r"/tasks/?", TasksHandler, described),
        URLSpec(path + r"/tasks/([^/]+)/?", TaskHandler, described),
    ]


def _check_max_body(value: int | None, most: int) -> int:
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"max_body must be an int from 1 to {most} bytes, not {value!r}")
    return value
