"""`run()`: parses the flags of a worker script, checks its tasks and starts the supervisor."""

import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from crew import broker_url, log
from crew import settings as settings_module
from crew.command_line import Command, print_error
from crew.errors import SettingsError
from crew.protocol.encoding import codec
from crew.worker import options as options_module
from crew.worker.context import context
from crew.worker.hooks import hooks
from crew.worker.options import Options, worker_options
from crew.worker.posix import process_end, stdio
from crew.worker.replacement import memory_used
from crew.worker.shared_state.exit_status import EXIT_BROKEN, EXIT_REFUSED
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.supervisor import reload
from crew.worker.supervisor.reload import OldProcess
from crew.worker.supervisor.supervisor import Supervisor
from crew.worker.task import registry

SILENT_HEARTBEATS = 3  # heartbeats: after that the broker has closed the connection and requeued its deliveries
SPARE_SLOTS = 64  # of the shared state per process, beyond its threads: executions may start faster than others end


def run(**settings: Any) -> NoReturn:
    """Serve the tasks of this script until a signal stops it, then exit.

    Reads the command line; see `--help`. SIGTERM or Ctrl-C stops it: the first time running tasks are finished, the
    second time they are interrupted, the third time they are killed.

    Args:
        settings: initial attributes of `context.settings`. Each worker process has its own, kept between tasks.

    Exit status: 0 stopped, 2 wrong usage, 70 no process could start, 78 an error that a restart cannot repair (a
    refused login, two tasks of one name).
    """

    @click.command(
        cls=Command, help="Serve the tasks of this script.", context_settings={"help_option_names": ["-h", "--help"]}
    )
    @worker_options
    def command(**flags: Any) -> None:
        sys.exit(start(settings, **flags))

    command()
    raise AssertionError("unreachable: click exits")


def start(settings: dict[str, Any], **flags: Any) -> int:
    """Serve the registered tasks with the parsed `flags`; returns the exit status, and bounds the time of the exit."""
    status = EXIT_BROKEN
    try:
        status = _start(settings, **flags)
    finally:
        process_end.bound_exit(status)
    return status


def _start(settings: dict[str, Any], **flags: Any) -> int:
    try:
        chosen = options_module.from_flags(**flags)
        _log_to_stderr(chosen.level)
        if chosen.is_http:
            _serve_http(chosen)
        registry.check()
        hooks.check()
        _check_memory(chosen)
        _check_tls(chosen.broker.urls)
        codec.decoder_of(chosen.broker)  # so that a wrong setting is an error here, before a process is forked
    except SettingsError as error:
        print_error(str(error))
        return EXIT_REFUSED
    state = settings_module.reload_state()
    if state == reload.TRY:
        return reload.CAN_BE_SERVED
    vars(context.settings).update(settings)
    return serve(chosen, reload.read_state(state))


def serve(chosen: Options, old: Sequence[OldProcess] = ()) -> int:
    """Run the supervisor with the `chosen` options until it stops; returns the exit status.

    Args:
        old: worker processes of older code, which are replaced.
    """
    from crew.worker.process import WorkerProcess  # before the forks: a process that is replaced starts at once

    # Twice as many regions as processes: a process that is replaced may run on for a while beside its replacement.
    shared_state = SharedState(2 * chosen.processes, chosen.threads + chosen.concurrency + SPARE_SLOTS)

    def run_child(number: int, supervisor: Any) -> int:
        return WorkerProcess(registry, chosen, number=number, shared_state=shared_state, supervisor=supervisor).run()

    return Supervisor(
        run_child,
        processes=chosen.processes,
        shared_state=shared_state,
        drain=chosen.drain + hooks.stop_timeout,
        grace=chosen.grace,
        silence=SILENT_HEARTBEATS * chosen.broker.heartbeat or math.inf,
        old=old,
    ).run()


def _check_tls(urls: Sequence[str]) -> None:
    """Check the TLS files of `urls`; only a worker that uses TLS loads OpenSSL before its processes do."""
    if any(broker_url.parse(url).is_tls for url in urls):
        from crew.amqp.connection import tls

        tls.check(urls)


def _check_memory(chosen: Options) -> None:
    if chosen.max_memory is None:
        return
    import crew.worker.process  # noqa: F401  # each process has it in memory before its first task

    used = memory_used()
    if used >= chosen.max_memory:
        raise SettingsError(
            f"--max-memory is too small: it allows {chosen.max_memory / 1e6:.0f} MB, and the worker uses "
            f"{used / 1e6:.0f} MB before its first task; raise it"
        )


def _serve_http(chosen: Options) -> None:
    """Register the task of URL jobs; only this imports aiohttp and aiodns."""
    try:
        from crew.worker.url_jobs.task import serve_http
    except ModuleNotFoundError:
        raise SettingsError('--http needs aiohttp and aiodns; install them: pip install "crew[http]"') from None
    serve_http(chosen.allowed_hosts, min_rate=settings_module.http_min_rate())


def _log_to_stderr(level: str) -> None:
    log.to_stderr(
        level.upper(),
        "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s",
        stream=stdio.log_stream(),
    )
