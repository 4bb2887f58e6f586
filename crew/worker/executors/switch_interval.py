"""How long a thread that burns CPU keeps the others waiting.

Near a limit the I/O thread waits behind each such thread, several times, before it has interrupted one: with Python's
5 ms that is too late at times. At all times, short tasks would pay for shorter turns.
"""

import sys
from typing import Final

SHORT: Final = 0.001  # seconds

_hurrying: Final[set[object]] = set()
_usual: float = sys.getswitchinterval()


def shorten(who: object, *, near: bool) -> None:
    """Have turns short while it is `near` for anybody, and as they were before when it is for nobody."""
    global _usual
    was_short = bool(_hurrying)
    (_hurrying.add if near else _hurrying.discard)(who)
    if _hurrying and not was_short:
        _usual = sys.getswitchinterval()
        sys.setswitchinterval(min(SHORT, _usual))
    elif was_short and not _hurrying:
        sys.setswitchinterval(_usual)
