"""The command line flags of a worker, the same for `python worker.py` and `crew worker`."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
import msgspec

from crew import __version__
from crew import settings as settings_module
from crew.command_line import Count, DurationType
from crew.errors import SettingsError
from crew.protocol.deadline import HEARTBEAT_EVERY
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error")

MEMORY_UNITS: Final = {
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_BYTES: Final = {unit.lower(): bytes for unit, bytes in MEMORY_UNITS.items()}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a worker.

    Attributes:
        broker: settings of the broker connection.
        processes: number of worker processes.
        threads: concurrent executions per process; with 1, tasks run in the main thread, where everything can be
            interrupted.
        concurrency: concurrent executions of `async def` tasks per process.
        prefetch: deliveries of a queue to hold; 0: derived from the measured run time.
        grace: seconds between the interrupt of a task and the end of its process.
        zombies: threads that may go on after their grace before their process is replaced; None: one per thread.
        drain: seconds for running tasks to finish when the worker stops.
        level: log level.
        max_tasks: executions after which a process is replaced; None: no limit.
        max_memory: bytes of memory after a task above which its process is replaced; None: no limit.
        is_http: also serve URL jobs.
        allowed_hosts: internal hosts that URL jobs may reach, and public hosts that they may not.
        max_requests_per_host: concurrent requests of URL jobs per process for one host; None: the default.
        job_heartbeat: seconds between two heartbeats of a running job. No flag sets it: gateways rely on the default.
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
    job_heartbeat: float = HEARTBEAT_EVERY

    @property
    def requests_per_host(self) -> int | None:
        """Concurrent requests per process for one host; None: as many as the process has slots.

        The default is three quarters of the slots: one host can never occupy all of them, and few users notice the
        limit.
        """
        held = min(self.concurrency, self.prefetch or self.concurrency)
        limit = self.max_requests_per_host or max(1, held * 3 // 4)
        return limit if limit < self.concurrency else None

    @property
    def is_debugging(self) -> bool:
        """Whether callers get the traceback of a task that timed out."""
        return self.level == "debug"


def worker_options(command: F) -> F:
    """Add the flags of a worker to a click command, which passes them as keyword arguments to `from_flags`."""
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
    """Options from parsed flags; raises SettingsError if an address or a key is invalid."""
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
            raise SettingsError(f"{flag} applies only to URL jobs: add --http, or remove {flag}")
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
        raise SettingsError(
            "--max-requests-per-host applies only to URL jobs: add --http, or remove --max-requests-per-host"
        )
    return settings_module.max_requests_per_host(given)


def _memory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_memory_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_memory_size(text: str) -> int:
    """Parse an amount of memory, like "200MB" or "1GiB"; returns bytes.

    Raises:
        ValueError: it is not a positive number with one of the units.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower(), re.ASCII)
    size = round(float(found[1]) * _BYTES.get(found[2], 0)) if found else 0
    if size < 1:
        raise ValueError(f"it must be a number with a unit ({', '.join(MEMORY_UNITS)}), like 200MB, not {text!r}")
    return size


_POSITIVE = Count(min=1)
_DURATION = DurationType(may_be_zero=True)

_FLAGS = (
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Same as --logging debug; callers also get the traceback of a task that timed out.",
    ),
    click.option("--logging", type=click.Choice(LEVELS), help="Log level; default info."),
    click.option("-H", "--host", help="Host of the broker."),
    click.option("-P", "--port", type=Count(1, 65535), help="Port of the broker."),
    click.option("--username", help="User name for the broker."),
    click.option(
        "--password",
        help="Password for the broker. Other users can read a command line: better set CREW_AMQP_PASSWORD.",
    ),
    click.option("--vhost", help="Virtual host of the broker."),
    click.option("--url", help="AMQP URL of the broker, or several separated by commas; default CREW_AMQP_URL."),
    click.option(
        "--queue-type",
        type=click.Choice(settings_module.QUEUE_TYPES),
        help="quorum: a cluster replicates queues on several nodes; default CREW_QUEUE_TYPE, else classic.",
    ),
    click.option(
        "--signing-key-file",
        metavar="FILE",
        help="File of signing keys: messages are signed, and unsigned ones refused; default CREW_SIGNING_KEY.",
    ),
    click.option(
        "--processes", "--forks", type=_POSITIVE, default=1, show_default=True, help="Number of worker processes."
    ),
    click.option(
        "--threads", type=_POSITIVE, default=1, show_default=True, help="Number of concurrent tasks per process."
    ),
    click.option(
        "--concurrency",
        type=_POSITIVE,
        default=100,
        show_default=True,
        help="Number of concurrent `async def` tasks per process.",
    ),
    click.option(
        "--prefetch",
        type=Count(min=0),
        default=0,
        help="Deliveries to hold per task queue; 0 (default): derived from the run time.",
    ),
    click.option(
        "--grace",
        type=_DURATION,
        default=5.0,
        show_default=True,
        help="Time from the interrupt of a task to the kill: seconds, or text like 10s.",
    ),
    click.option(
        "--zombies",
        type=Count(min=0),
        help="Threads that may go on after their grace before the process is replaced; default: one per thread.",
    ),
    click.option("--max-tasks", type=_POSITIVE, help="Number of tasks after which a process is replaced."),
    click.option(
        "--max-memory",
        metavar="SIZE",
        callback=_memory,
        help="Memory use after a task above which the process is replaced, like 200MB or 1GiB.",
    ),
    click.option("--http", is_flag=True, help="Also serve URL jobs; needs crew[http]."),
    click.option(
        "--allow-host",
        multiple=True,
        metavar="HOST",
        help="Internal name, address or network that URL jobs may request, with or without :PORT; repeatable; default "
        "CREW_ALLOW_HOSTS.",
    ),
    click.option(
        "--deny-host",
        multiple=True,
        metavar="HOST",
        help="Public name, address or network that URL jobs may not request, for example an address that a router maps "
        "to this network; repeatable; default CREW_DENY_HOSTS.",
    ),
    click.option(
        "--max-requests-per-host",
        type=_POSITIVE,
        help="Concurrent requests of URL jobs per process for one host; default CREW_MAX_REQUESTS_PER_HOST, else three "
        "quarters of --concurrency.",
    ),
    click.option(
        "--drain",
        type=_DURATION,
        default=30.0,
        show_default=True,
        help="Time for running tasks to finish when the worker stops: seconds, or text like 2m.",
    ),
    click.version_option(__version__, "--version", prog_name="crew"),
)
