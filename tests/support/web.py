"""A web site under test, as a person sees it from outside: status, body, and how long it took."""

import http.client
import json
import re
import select
import time
from dataclasses import dataclass
from typing import Any

from tests.support.processes import READY_WITHIN, Process
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Answer:
    """What the site answered.

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


class Visit:
    """A request without an answer yet."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._connection.connect()
        self._begun = time.monotonic()
        self._connection.request("GET", path)

    def has_answer(self) -> bool:
        """Whether something has come back."""
        return bool(select.select([self._connection.sock], [], [], 0)[0])

    def answer(self, timeout: float) -> Answer:
        """Wait for the answer."""
        self._connection.sock.settimeout(timeout)
        with self._connection.getresponse() as response:
            text = response.read().decode()
        self._connection.close()
        return Answer(response.status, text, time.monotonic() - self._begun)

    def leave(self) -> None:
        """Close the connection, whatever is on its way."""
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
        assert found  # what eventually returns is true
        return cls(int(found[1]))

    @property
    def address(self) -> str:
        """For a browser."""
        return f"http://127.0.0.1:{self.port}/"

    def visit(self, path: str) -> Visit:
        """Begin a request."""
        return Visit(self.port, path)

    def get(self, path: str, timeout: float = 15.0) -> Answer:
        """Make a request."""
        return self.visit(path).answer(timeout)
