"""`crew gateway`: serve calls and jobs over HTTP without writing an application."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from crew import log, settings
from crew.cli.connection import url_option
from crew.cli.exit_status import exit_on_error
from crew.command_line import Count, print_error, print_line
from crew.errors import ConnectionError, SettingsError
from crew.limits import GatewayLimits
from crew.limits import load as load_limits

if TYPE_CHECKING:
    from crew.signatures.registered import RegisteredTask

F = TypeVar("F", bound=Callable[..., Any])

_LIMITS: Final = (
    ("max-connections", "N", "connections at the same time; more get 503, except on the health routes"),
    ("max-connections-per-peer", "N", "connections from one address (with a proxy: all); more get 429"),
    ("head-timeout", "TIME", "time until a new connection has sent the headers of a request; default 20"),
    ("idle-timeout", "TIME", "time from a response until the headers of the next request; default 75"),
    ("stall-timeout", "TIME", "time in which a client must send or read at least one byte; default 60"),
    ("min-rate", "SIZE", "bytes per second that a request body must reach; default 1024"),
    ("max-expiration", "TIME", "maximum expiration of a call: the wait for its result; default 60"),
    ("max-timeout", "TIME", "maximum timeout of a call or job: its running time"),
    ("max-ttl", "TIME", "maximum time for which a job's record is stored after its end"),
    ("max-jobs", "N", "jobs queued and running; more get 503"),
    ("max-jobs-per-token", "N", "jobs queued and running for one token; more get 429"),
    ("max-jobs-per-host", "N", "URL jobs queued and running for one host; more get 429"),
    ("max-job-bytes", "SIZE", "payloads of jobs queued and running; more get 503"),
    ("max-job-bytes-per-token", "SIZE", "payloads of jobs queued and running for one token; more get 429"),
    ("max-job-bytes-per-host", "SIZE", "payloads of URL jobs queued and running for one host; more get 429"),
    ("max-page", "N", "jobs on one page of a list; default 500"),
)


def limit_options(command: F) -> F:
    """Add a flag for each limit of a gateway."""
    for name, metavar, text in reversed(_LIMITS):
        variable = f"CREW_GATEWAY_{name.replace('-', '_').upper()}"
        command = click.option(f"--{name}", metavar=metavar, help=f"{text} [{variable}]")(command)
    return command


@click.command("gateway")
@click.option("--address", default="127.0.0.1", show_default=True, help="address to listen on; 0.0.0.0: all interfaces")
@click.option("--host", "old_address", hidden=True, help="deprecated name of --address")
@click.option("--port", type=Count(0, 65535), default=8888, show_default=True, help="port to listen on; 0: a free port")
@url_option
@click.option("--database", metavar="URL", help="URL of the job store [CREW_DATABASE; else sqlite:///.crew/jobs.db]")
@click.option(
    "--allow-host",
    metavar="HOST",
    multiple=True,
    help="internal host that URL jobs may request; repeatable [CREW_ALLOW_HOSTS]",
)
@click.option(
    "--deny-host",
    metavar="HOST",
    multiple=True,
    help="public host that URL jobs may not request; repeatable [CREW_DENY_HOSTS]",
)
@click.option(
    "--certfile",
    metavar="FILE",
    help="serve HTTPS with the certificate chain in this PEM file [CREW_GATEWAY_CERT]",
)
@click.option("--keyfile", metavar="FILE", help="private key, if --certfile does not contain it [CREW_GATEWAY_KEY]")
@click.option(
    "--signing-key-file",
    metavar="FILE",
    help="file of signing keys: messages are signed, and unsigned ones refused [CREW_SIGNING_KEY]",
)
@click.option(
    "--tasks",
    "scripts",
    metavar="FILE_OR_MODULE",
    multiple=True,
    help="worker script whose tasks GET /tasks/ and /openapi.json describe; repeatable. Its code is run here",
)
@limit_options
@click.option("--debug", is_flag=True, help="send tracebacks and the addresses of broker and job store to HTTP clients")
def command(
    *,
    address: str,
    old_address: str | None,
    port: int,
    url: str | None,
    database: str | None,
    allow_host: Sequence[str],
    deny_host: Sequence[str],
    certfile: str | None,
    keyfile: str | None,
    signing_key_file: str | None,
    scripts: Sequence[str],
    debug: bool,
    **given: str | None,
) -> None:
    """Serve calls and jobs over HTTP.

    SIGTERM, SIGHUP or Ctrl-C stops the gateway after a drain: open requests are finished first. If it listens beyond
    this machine (--address 0.0.0.0), every request needs a token: set CREW_GATEWAY_TOKEN, and have clients send
    `Authorization: Bearer <token>`. To encrypt the token, use --certfile or a TLS proxy in front.

    TIME is a number of seconds, or text like 90s, 15m, 12h; SIZE is a number of bytes, or text like 100MB, 1GiB.
    Without --max-... there is no limit, unless a default is named.

    Exit status: 0 after a drain, 2 after wrong usage or a wrong setting.
    """
    log.to_stderr(logging.INFO, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # the response itself names the reason of a refusal
    if old_address is not None:
        print_error("--host is now named --address: --host is the broker's host in the other commands")
        address = old_address
    with exit_on_error():
        certificate = settings.gateway_certificate(certfile, keyfile)
        limits = load_limits(given)
        tasks = _tasks_of(scripts)
        asyncio.run(
            _serve(
                address,
                port,
                url,
                database,
                (allow_host, deny_host),
                signing_key=settings.signing_key_in(signing_key_file),
                certificate=certificate,
                limits=limits,
                tasks=tasks,
                debug=debug,
            )
        )


def _tasks_of(scripts: Sequence[str]) -> "list[RegisteredTask]":
    """The tasks of these files and modules. Their code stays unknown to a gateway that describes no tasks."""
    if not scripts:
        return []
    from crew.cli.tasks.script import load
    from crew.worker.task import registry

    for script in scripts:
        load(script)
    return list(registry)


async def _serve(
    address: str,
    port: int,
    url: str | None,
    database: str | None,
    url_hosts: tuple[Sequence[str], Sequence[str]],
    *,
    signing_key: str | None,
    certificate: tuple[str | None, str | None],
    limits: GatewayLimits,
    tasks: "list[RegisteredTask]",
    debug: bool,
) -> None:
    try:
        from crew.gateway import routes, serve
        from crew.gateway.serving import tls
        from crew.gateway.serving.auth import GuardedApplication, check_access
        from crew.jobs import JobStore
    except ImportError as error:
        raise SettingsError(str(error)) from None
    from crew.client import Client

    token = settings.gateway_token()
    tokens = settings.gateway_tokens()
    check_access(address, token, tokens)
    tls_context = tls.context_of(*certificate)
    store = JobStore(database)
    client = Client(url, signing_key=signing_key, store=store)
    try:
        handlers = routes(client, allow_hosts=url_hosts[0], deny_hosts=url_hosts[1], limits=limits, tasks=tasks)
    except ValueError as error:  # names the host that is invalid
        raise SettingsError(str(error)) from None
    hint = {"hint": "; see /openapi.json for the routes"}
    application = GuardedApplication(
        handlers, token=token, tokens=tokens, default_handler_args=hint, serve_traceback=debug
    )
    with contextlib.suppress(ConnectionError):  # the client retries until the store is reachable
        await store.open()
    await serve(application, client, port=port, address=address, on_listening=print_line, ssl_options=tls_context)
