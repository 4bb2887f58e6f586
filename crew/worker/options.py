"""The flags of a worker, the same for `python worker.py` and `crew worker`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from crew import __version__
from crew import settings as settings_module
from crew.command_line import Count, DurationType
from crew.errors import SettingsError
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.settings import Settings
from crew.worker import memory_size

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker runs.

    Attributes:
        broker: where it is.
        processes: worker processes.
        threads: executions at a time in each; 1 runs tasks in the main thread, where everything can be interrupted.
        concurrency: executions of `async def` tasks at a time in each.
        prefetch: deliveries of a queue to hold, 0 to follow the measured run time.
        grace: seconds between the interrupt of a task and the end of its process.
        zombies: threads that may go on after their grace before their process is replaced; None: one a slot.
        drain: seconds that running tasks have when the worker is told to stop.
        level: of the log.
        max_tasks: that one process runs before it is replaced; None: no bound.
        max_memory: bytes that a process may have after a task before it is replaced; None: no bound.
        is_http: serves URL jobs, too.
        allowed_hosts: what those may reach though it is internal, and what they may not though it is public.
        max_requests_per_host: requests of URL jobs that each process runs at once for one host; None: the default.
    """

    broker: Settings
    processes: int = 1
    threads: int = 1
    concurrency: int = 100
    prefetch: int = 0
    grace: float = 5.0
    zombies: int | None = None
    drain: float = 30.0
    level: str = "info"
    max_tasks: int | None = None
    max_memory: int | None = None
    is_http: bool = False
    allowed_hosts: AllowedHosts = AllowedHosts()
    max_requests_per_host: int | None = None

    @property
    def requests_per_host(self) -> int | None:
        """Requests that each process runs at once for one host; None: as many as it has slots.

        The default is three quarters of the slots: one host alone never has all of them, and few users notice a limit.
        """
        held = min(self.concurrency, self.prefetch or self.concurrency)
        limit = self.max_requests_per_host or max(1, held * 3 // 4)
        return limit if limit < self.concurrency else None

    @property
    def is_debugging(self) -> bool:
        """Whether callers are told where a task was when its time was over."""
        return self.level == "debug"


def worker_options(command: F) -> F:
    """Give a click command the flags of a worker; it gets them as keyword arguments, for `from_flags`."""
    for option in reversed(_FLAGS):
        command = option(command)
    return command


def from_flags(
    *,
    verbose: bool,
    logging: str | None,
    http: bool = False,
    allow_host: Sequence[str] = (),
    deny_host: Sequence[str] = (),
    max_requests_per_host: int | None = None,
    signing_key_file: str | None = None,
    **flags: Any,
) -> Options:
    """Options from what click has parsed; raises SettingsError where an address or a key cannot be used."""
    address = {name: flags.pop(name) for name in ("url", "host", "port", "username", "password", "vhost", "queue_type")}
    level = logging or ("debug" if verbose else "info")
    return Options(
        broker=settings_module.load(**address, signing_key=settings_module.signing_key_in(signing_key_file)),
        level=level,
        is_http=http,
        allowed_hosts=_allowed_hosts(allow_host, deny_host, is_http=http),
        max_requests_per_host=_max_requests_per_host(max_requests_per_host, is_http=http),
        **flags,
    )


def _allowed_hosts(allowed: Sequence[str], denied: Sequence[str], *, is_http: bool) -> AllowedHosts:
    for flag, given in (("--allow-host", allowed), ("--deny-host", denied)):
        if given and not is_http:
            raise SettingsError(f"{flag} is for URL jobs: give --http, too, or leave it out")
    try:
        hosts = AllowedHosts.of(settings_module.allow_hosts(allowed))
    except ValueError as error:
        raise SettingsError(f"--allow-host or CREW_ALLOW_HOSTS: {error}") from None
    try:
        return msgspec.structs.replace(hosts, denied=AllowedHosts.of((), settings_module.deny_hosts(denied)).denied)
    except ValueError as error:
        raise SettingsError(f"--deny-host or CREW_DENY_HOSTS: {error}") from None


def _max_requests_per_host(given: int | None, *, is_http: bool) -> int | None:
    if given is not None and not is_http:
        raise SettingsError("--max-requests-per-host is for URL jobs: give --http, too, or leave it out")
    return settings_module.max_requests_per_host(given)


def _memory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else memory_size.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_POSITIVE = Count(min=1)
_DURATION = DurationType(may_be_zero=True)

_FLAGS = (
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Log more, as --logging debug; tell callers where a task timed out.",
    ),
    click.option("--logging", type=click.Choice(LEVELS), help="Level of the log; default info."),
    click.option("-H", "--host", help="Host of the broker."),
    click.option("-P", "--port", type=Count(1, 65535), help="Port of the broker."),
    click.option("--username", help="User at the broker."),
    click.option("--password", help="Better: CREW_AMQP_PASSWORD in the environment, which nobody sees."),
    click.option("--vhost", help="Virtual host at the broker."),
    click.option("--url", help="AMQP URL of the broker, or several with commas; default CREW_AMQP_URL."),
    click.option(
        "--queue-type",
        type=click.Choice(settings_module.QUEUE_TYPES),
        help="quorum: a cluster keeps queues on several nodes; default CREW_QUEUE_TYPE, else classic.",
    ),
    click.option(
        "--signing-key-file",
        metavar="FILE",
        help="Keys that sign each message, and that each message must be signed with; default CREW_SIGNING_KEY.",
    ),
    click.option("--processes", "--forks", type=_POSITIVE, default=1, show_default=True, help="Worker processes."),
    click.option("--threads", type=_POSITIVE, default=1, show_default=True, help="Tasks at a time in each process."),
    click.option(
        "--concurrency",
        type=_POSITIVE,
        default=100,
        show_default=True,
        help="`async def` tasks at a time in each process.",
    ),
    click.option("--prefetch", type=Count(min=0), default=0, help="Calls of a task to hold; default: by run time."),
    click.option(
        "--grace",
        type=_DURATION,
        default=5.0,
        show_default=True,
        help="From interrupt to kill: seconds, or text like 10s.",
    ),
    click.option(
        "--zombies",
        type=Count(min=0),
        help="Threads that may go on after their grace before the process is replaced; default: one a thread.",
    ),
    click.option("--max-tasks", type=_POSITIVE, help="Tasks that a process runs before it is replaced."),
    click.option(
        "--max-memory",
        metavar="SIZE",
        callback=_memory,
        help="Memory that a process may have after a task before it is replaced, like 200MB or 1GiB.",
    ),
    click.option("--http", is_flag=True, help="Perform URL jobs, too: needs crew[http]."),
    click.option(
        "--allow-host",
        multiple=True,
        metavar="HOST",
        help="An internal name, address or network that URL jobs may reach, with :PORT or without; may be given "
        "several times; default CREW_ALLOW_HOSTS.",
    ),
    click.option(
        "--deny-host",
        multiple=True,
        metavar="HOST",
        help="A public name, address or network that URL jobs may not reach, like an address that a router maps to "
        "this network; may be given several times; default CREW_DENY_HOSTS.",
    ),
    click.option(
        "--max-requests-per-host",
        type=_POSITIVE,
        help="Requests of URL jobs that each process runs at once for one host; default CREW_MAX_REQUESTS_PER_HOST, "
        "else three quarters of --concurrency.",
    ),
    click.option(
        "--drain",
        type=_DURATION,
        default=30.0,
        show_default=True,
        help="To finish when stopped: seconds, or text like 2m.",
    ),
    click.version_option(__version__, "--version", prog_name="crew"),
)
