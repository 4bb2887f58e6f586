"""A Tornado application in a test: served on a Unix domain socket and on a loopback port, with a client of its own."""

import json as json_module
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from tornado.httpserver import HTTPServer
from tornado.netutil import Resolver, bind_sockets, bind_unix_socket
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.web import Application

from crew.client import Client

if TYPE_CHECKING:
    from crew.jobs import JobStore

HOST: Final = "127.0.0.1"

Source = Application | Sequence[Any] | Callable[[Client], Application] | None


class Response(msgspec.Struct, frozen=True):
    """A response.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded from JSON."""
        return json_module.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class TestedGateway:
    """An application that is served on the event loop of the kit.

    Args:
        source: the application; a list of handlers; a function that makes the application of a client; or None for the
            HTTP API of crew. An application gets the client as its attribute `crew`.
        folder: for its Unix domain socket.

    Attributes:
        url: for other HTTP clients. Virtual time may pass too early for them: use `fetch`.
    """

    def __init__(self, source: Source, client: Client, store: "JobStore | None", *, folder: Path) -> None:
        self.client = client
        self.application = _application(source, client, store)
        self._server = HTTPServer(self.application)
        (listening,) = sockets = bind_sockets(0, HOST)
        self._server.add_sockets(sockets)
        path = str(folder / f"http-{id(self):x}")
        self._server.add_socket(bind_unix_socket(path))
        self.url = f"http://{HOST}:{listening.getsockname()[1]}"
        self._http = SimpleAsyncHTTPClient(force_instance=True, resolver=_UnixResolver(path=path))

    def __repr__(self) -> str:
        return f"<TestedGateway {self.url}>"

    async def fetch(
        self,
        path: str,
        *,
        method: str | None = None,
        json: Any = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Make a request and wait for its response, whatever its status."""
        given = dict(headers or {})
        if json is not None:
            body = json_module.dumps(json)
            given.setdefault("Content-Type", "application/json")
        response = await self._http.fetch(
            self.url + path,
            method=method or ("GET" if body is None else "POST"),
            body=body,
            headers=given,
            raise_error=False,
            request_timeout=0,
            connect_timeout=0,
            allow_nonstandard_methods=True,
        )
        if response.error is not None and response.code == 599:
            raise response.error
        names = {name.lower(): value for name, value in response.headers.get_all()}
        return Response(response.code, names, response.body or b"")

    async def close(self) -> None:
        """Stop serving, and close the client."""
        self._http.close()
        self._server.stop()
        await self._server.close_all_connections()
        await self.client.close()


class _UnixResolver(Resolver):
    """Resolves each name to one Unix domain socket."""

    def initialize(self, path: str) -> None:
        self._path = path

    async def resolve(self, host: str, port: int, family: Any = socket.AF_UNSPEC) -> list[tuple[int, Any]]:
        """See tornado."""
        return [(socket.AF_UNIX, self._path)]


def _application(source: Source, client: Client, store: "JobStore | None") -> Application:
    if isinstance(source, Application):
        application = source
    elif source is None:
        from crew.gateway import routes  # with the job store

        application = Application(routes(client, store))
    elif callable(source):
        application = source(client)
    else:
        application = Application(list(source))
    if store is not None:
        client.keep_jobs_in(store)
    application.crew = client  # type: ignore[attr-defined]
    application.settings.setdefault("crew", client)
    return application
