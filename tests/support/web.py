"""An HTTP client for a web site under test: status, body and duration of each response."""

import http.client
import json
import re
import select
import socket
import time
from dataclasses import dataclass
from typing import Any

from tests.support.processes import READY_WITHIN, Process
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Response:
    """The response of the site.

    Attributes:
        seconds: from the request to the last byte.
    """

    status: int
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


class PendingRequest:
    """A request whose response has not been read."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._connection.connect()
        self._begun = time.monotonic()
        self._connection.request("GET", path)

    def has_response(self) -> bool:
        """Whether any part of the response has arrived."""
        return bool(select.select([self._connection.sock], [], [], 0)[0])

    def response(self, timeout: float) -> Response:
        """Wait for the response."""
        self._connection.sock.settimeout(timeout)
        with self._connection.getresponse() as response:
            text = response.read().decode()
        self._connection.close()
        return Response(response.status, text, time.monotonic() - self._begun)

    def disconnect(self) -> None:
        """Close the connection."""
        self._connection.close()


class Web:
    """The site on one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    @classmethod
    def of(cls, gateway: Process) -> "Web":
        """The site of a process that prints its address once it listens."""
        address = re.compile(r"http://127\.0\.0\.1:(\d+)\n")  # its end too: a line may arrive in two pieces
        found = eventually(lambda: address.search(gateway.output), timeout=READY_WITHIN)
        assert found  # `eventually` returns a true value
        return cls(int(found[1]))

    @property
    def address(self) -> str:
        """The URL for a browser."""
        return f"http://127.0.0.1:{self.port}/"

    def begin(self, path: str) -> PendingRequest:
        """Begin a request."""
        return PendingRequest(self.port, path)

    def get(self, path: str, timeout: float = 15.0) -> Response:
        """Make a request, and wait for the response."""
        return self.begin(path).response(timeout)


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether a process listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
