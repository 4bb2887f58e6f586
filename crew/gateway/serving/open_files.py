"""How many files, which connections are, this process may open."""

import contextlib
import resource


def allow_most() -> int:
    """Raise the limit to the highest that the system lets this process have, and return that.

    Most systems begin with 1,024, for the sake of programs that use select(2): as many requests at a time.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses what it has said that it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
