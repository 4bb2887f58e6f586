"""The requests of the URL jobs that run in this process, parsed when their deliveries were taken."""

from typing import Final

from crew.protocol.http_job.request import HttpRequest

# By `Call.key`. The I/O thread adds a request before its execution can begin, and removes it after its end.
running: Final[dict[str, HttpRequest]] = {}
