"""Between pika and us: an exception that leaves a pika callback costs the whole connection."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec

logger = logging.getLogger(__name__)

P = ParamSpec("P")


def guarded(callback: Callable[P, None]) -> Callable[P, None]:
    """`callback`, which logs what it raises instead of raising it into pika."""

    @functools.wraps(callback)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:
            logger.exception("%r failed", callback)

    return guard
