"""The headers of a task's reply, as its HTTP caller may see them.

A task fills `context.headers` for whoever calls it, and HTTP callers see them as `Crew-<Name>`. The prefix keeps a task
from setting headers that mean something to browsers and proxies, and only what reads the same to all of them is passed
on, so that no value can end its line and begin another header. What does not fit is left out: it is no failure. So is
what would read as a header that the gateway itself sets.
"""

import re
from typing import Final

from crew.protocol.message import Headers

PREFIX: Final = "Crew-"
JOB_STATUS: Final = "Crew-Job-Status"  # of every answer about the response of a job
MAX_SIZE: Final = 2048  # bytes of all of them: proxies give a whole head 4 KiB at times

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")  # printable ASCII


def http_headers(headers: Headers) -> dict[str, str]:
    """Those of `headers` that can be headers of an HTTP response; a bool reads `true` or `false`."""
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
