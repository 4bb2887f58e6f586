"""Converts the headers of a task's reply to HTTP headers.

A task sets `context.headers`, and HTTP clients receive them as `Crew-<Name>`. The prefix keeps a task from setting
headers that browsers and proxies interpret. Names and values with characters that they may read differently are left
out, so that no value can end its line and start another header. So are headers that exceed `MAX_SIZE`, and those with
the name of a header that the gateway sets. None of this is an error.
"""

import re
from typing import Final

from crew.protocol.message import Headers

PREFIX: Final = "Crew-"
JOB_STATUS: Final = "Crew-Job-Status"  # set in every response with the result of a job
MAX_SIZE: Final = 2048  # bytes of all reply headers: some proxies limit the whole head to 4 KiB

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")  # printable ASCII


def http_headers(headers: Headers) -> dict[str, str]:
    """The reply headers that are valid in an HTTP response, with the prefix. A bool becomes `true` or `false`."""
    found: dict[str, str] = {}
    left = MAX_SIZE
    for name, value in headers.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        size = len(f"{PREFIX}{name}: {text}\r\n")
        is_ours = f"{PREFIX}{name}".lower() == JOB_STATUS.lower()
        if size <= left and not is_ours and _NAME.fullmatch(name) and _VALUE.fullmatch(text):
            found[PREFIX + name] = text
            left -= size
    return found
