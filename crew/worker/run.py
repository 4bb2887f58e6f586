"""`run()`: the flags, the settings, the supervisor."""

import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from crew import log
from crew import settings as settings_module
from crew.amqp import tls
from crew.command_line import Command, print_error
from crew.errors import SettingsError
from crew.protocol.encoding import codec
from crew.worker import options as options_module
from crew.worker.context import context
from crew.worker.hooks import hooks
from crew.worker.options import Options, worker_options
from crew.worker.posix import process_end, stdio
from crew.worker.process import EXIT_BROKEN, EXIT_REFUSED, WorkerProcess
from crew.worker.replacement import memory_used
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.supervisor import reload
from crew.worker.supervisor.reload import OldProcess
from crew.worker.supervisor.supervisor import Supervisor
from crew.worker.task import registry

GIVEN_UP_AFTER = 3  # heartbeats: by then the broker has taken back what a silent process held
EXECUTIONS_NOTED = 64  # per process, beyond its threads: short ones may end faster than they are noted


def run(**settings: Any) -> NoReturn:
    """Serve the tasks of this script until it is told to stop; ends the process.

    Reads the command line: see `--help`. Stop it with SIGTERM or Ctrl-C: the running tasks are finished; a second time:
    they are interrupted; a third time: killed.

    Args:
        settings: initial attributes of `context.settings`, kept between tasks, in each worker process its own.

    Exit status: 0 stopped, 2 wrong usage, 70 nothing could start, 78 what no other attempt would mend (a refused login,
    two tasks of one name).
    """

    @click.command(
        cls=Command, help="Serve the tasks of this script.", context_settings={"help_option_names": ["-h", "--help"]}
    )
    @worker_options
    def command(**flags: Any) -> None:
        sys.exit(start(settings, **flags))

    command()
    raise AssertionError("unreachable: click ends the process")


def start(settings: dict[str, Any], **flags: Any) -> int:
    """Serve what is registered, as the parsed `flags` say; returns the exit status. The process ends soon after it."""
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
        tls.check(chosen.broker.urls)
        codec.decoder_of(chosen.broker)  # so that a mistake in it is told here
    except SettingsError as error:
        print_error(str(error))
        return EXIT_REFUSED
    state = settings_module.reload_state()
    if state == reload.TRY:
        return reload.CAN_BE_SERVED
    vars(context.settings).update(settings)
    return serve(chosen, reload.read_state(state))


def serve(chosen: Options, left: Sequence[OldProcess] = ()) -> int:
    """Supervise worker processes as `chosen`, in place of those `left` of older code; returns the exit status."""
    # Twice as many: a process that is replaced may run on for a while beside the one that takes its place.
    shared_state = SharedState(2 * chosen.processes, chosen.threads + chosen.concurrency + EXECUTIONS_NOTED)

    def run_child(number: int, supervisor: Any) -> int:
        return WorkerProcess(registry, chosen, number=number, shared_state=shared_state, supervisor=supervisor).run()

    return Supervisor(
        run_child,
        processes=chosen.processes,
        shared_state=shared_state,
        drain=chosen.drain + hooks.stop_timeout,
        grace=chosen.grace,
        silence=GIVEN_UP_AFTER * chosen.broker.heartbeat or math.inf,
        left=left,
    ).run()


def _check_memory(chosen: Options) -> None:
    used = memory_used()
    if chosen.max_memory is not None and used >= chosen.max_memory:
        raise SettingsError(
            f"--max-memory allows {chosen.max_memory / 1e6:.0f} MB, and the worker has {used / 1e6:.0f} MB before its "
            "first task: allow more"
        )


def _serve_http(chosen: Options) -> None:
    """Only here are aiohttp and aiodns loaded."""
    try:
        from crew.worker.url_jobs.task import serve_http
    except ModuleNotFoundError:
        raise SettingsError('a worker with --http needs aiohttp and aiodns: pip install "crew[http]"') from None
    serve_http(chosen.allowed_hosts, min_rate=settings_module.http_min_rate())


def _log_to_stderr(level: str) -> None:
    log.to_stderr(
        level.upper(),
        "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s",
        stream=stdio.log_stream(),
    )
