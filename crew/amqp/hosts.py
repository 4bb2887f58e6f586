"""In which order the hosts of a broker are tried.

Each process begins with another one, so that not all of them meet on the first; both links of a process begin with the
same one, so that the death of another node costs it nothing.
"""

import itertools
import os
import socket
import zlib
from collections.abc import Iterator, Sequence


def own_place() -> int:
    """A number for this process: it differs from that of its neighbours, and from that of the same one elsewhere."""
    return zlib.crc32(socket.gethostname().encode()) + os.getpid()


def in_turn(urls: Sequence[str], *, place: int) -> Iterator[str]:
    """All `urls` again and again, in their order, beginning with number `place` modulo their number."""
    first = place % len(urls)
    return itertools.cycle((*urls[first:], *urls[:first]))
