"""`crew gateway`: calls and jobs over HTTP, without an application of one's own."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from crew import log, settings
from crew.cli.connection import url_option
from crew.cli.exit_status import reported
from crew.command_line import Count, say
from crew.errors import ConnectionError, SettingsError
from crew.limits import GatewayLimits
from crew.limits import load as load_limits

F = TypeVar("F", bound=Callable[..., Any])

_LIMITS: Final = (
    ("max-connections", "N", "connections at a time; more hear 503, but for the health routes"),
    ("max-connections-per-peer", "N", "connections at a time from one address, which is that of a proxy, if any"),
    ("head-timeout", "TIME", "until a new connection has sent the head of its request; default 20"),
    ("idle-timeout", "TIME", "until a connection that was answered has sent the next one; default 75"),
    ("stall-timeout", "TIME", "in which a client has to send, or to read, something; default 60"),
    ("min-rate", "SIZE", "bytes a second of the body of a request; default 1024"),
    ("max-expiration", "TIME", "that a call may wait for its answer; default 60"),
    ("max-timeout", "TIME", "that a call or a job may ask to run"),
    ("max-ttl", "TIME", "that a job may be kept after its end"),
    ("max-jobs", "N", "jobs queued and running; more hear 503"),
    ("max-jobs-per-token", "N", "jobs queued and running of one token; more hear 429"),
    ("max-jobs-per-host", "N", "URL jobs queued and running for one host; more hear 429"),
    ("max-job-bytes", "SIZE", "payloads of jobs queued and running; more hear 503"),
    ("max-job-bytes-per-token", "SIZE", "payloads of jobs queued and running of one token"),
    ("max-job-bytes-per-host", "SIZE", "payloads of URL jobs queued and running for one host"),
    ("max-page", "N", "jobs on a page of a list; default 500"),
)


def limit_options(command: F) -> F:
    """Give a click command a flag for each limit of a gateway."""
    for name, metavar, text in reversed(_LIMITS):
        variable = f"CREW_GATEWAY_{name.replace('-', '_').upper()}"
        command = click.option(f"--{name}", metavar=metavar, help=f"{text} [{variable}]")(command)
    return command


@click.command("gateway")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=Count(0, 65535), default=8888, show_default=True, help="0 takes a free one")
@url_option
@click.option("--database", metavar="URL", help="where jobs are recorded [CREW_DATABASE, sqlite:///.crew/jobs.db]")
@click.option(
    "--allow-host",
    metavar="HOST",
    multiple=True,
    help="internal host that URL jobs may be submitted for; can be repeated [CREW_ALLOW_HOSTS]",
)
@click.option(
    "--deny-host",
    metavar="HOST",
    multiple=True,
    help="public host that URL jobs may not be submitted for; can be repeated [CREW_DENY_HOSTS]",
)
@click.option(
    "--certfile",
    metavar="FILE",
    help="serve HTTPS with this certificate, and those of its chain, in PEM [CREW_GATEWAY_CERT]",
)
@click.option("--keyfile", metavar="FILE", help="its private key, where --certfile does not hold it [CREW_GATEWAY_KEY]")
@click.option(
    "--signing-key-file",
    metavar="FILE",
    help="keys that sign each message, and that each message must be signed with [CREW_SIGNING_KEY]",
)
@limit_options
@click.option("--debug", is_flag=True, help="show clients tracebacks of tasks, and where broker and job store are")
def command(
    *,
    host: str,
    port: int,
    url: str | None,
    database: str | None,
    allow_host: Sequence[str],
    deny_host: Sequence[str],
    certfile: str | None,
    keyfile: str | None,
    signing_key_file: str | None,
    debug: bool,
    **given: str | None,
) -> None:
    """Serve calls and jobs over HTTP.

    It serves until SIGTERM, SIGHUP or Ctrl-C, and finishes what has begun. Beyond this machine (--host 0.0.0.0) every
    request has to bring a token: CREW_GATEWAY_TOKEN says which, and clients send `Authorization: Bearer <token>`.
    With --certfile the token travels encrypted; else a proxy in front should speak TLS.

    The exit status is 0 after a drain, and 2 where a setting cannot work.
    """
    log.to_stderr(logging.INFO, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # who refuses says so in the answer
    with reported():
        certificate = settings.gateway_certificate(certfile, keyfile)
        limits = load_limits(given)
        asyncio.run(
            _serve(
                host,
                port,
                url,
                database,
                (allow_host, deny_host),
                signing_key=settings.signing_key_in(signing_key_file),
                certificate=certificate,
                limits=limits,
                debug=debug,
            )
        )


async def _serve(
    host: str,
    port: int,
    url: str | None,
    database: str | None,
    url_hosts: tuple[Sequence[str], Sequence[str]],
    *,
    signing_key: str | None,
    certificate: tuple[str | None, str | None],
    limits: GatewayLimits,
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
    check_access(host, token, tokens)
    tls_context = tls.context_of(*certificate)
    store = JobStore(database)
    client = Client(url, signing_key=signing_key, store=store)
    try:
        handlers = routes(client, allow_hosts=url_hosts[0], deny_hosts=url_hosts[1], limits=limits)
    except ValueError as error:  # it names the host that is none
        raise SettingsError(str(error)) from None
    hint = {"hint": ": /openapi.json tells what is"}
    application = GuardedApplication(
        handlers, token=token, tokens=tokens, default_handler_args=hint, serve_traceback=debug
    )
    with contextlib.suppress(ConnectionError):  # the client retries until it is there
        await store.open()
    await serve(application, client, port=port, address=host, on_listening=say, ssl_options=tls_context)
