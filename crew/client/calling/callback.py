"""Calling back the user's functions, plain ones and coroutine functions: what they raise is logged."""

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from crew.errors import is_abandonment

logger = logging.getLogger(__name__)

_running: set["asyncio.Future[Any]"] = set()  # a loop holds its tasks weakly


def call_back(callback: Callable[..., object], *args: Any, of: str) -> None:
    """Call `callback(*args)`, and let a coroutine that it returns run by itself.

    It may look at a future that was cancelled: CancelledError is no Exception, and would end what reads from the broker
    in the midst of its messages, or the timer of all calls.

    Args:
        of: what it is the callback of, for the log.
    """
    try:
        result = callback(*args)
    except (Exception, asyncio.CancelledError) as error:
        _log(of, error)
        return
    if inspect.isawaitable(result):
        future = asyncio.ensure_future(result)
        _running.add(future)
        future.add_done_callback(functools.partial(_on_done, of))


def _on_done(of: str, future: "asyncio.Future[Any]") -> None:
    _running.discard(future)
    if not future.cancelled() and (error := future.exception()) is not None:
        _log(of, error)


def _log(of: str, error: BaseException) -> None:
    if not is_abandonment(error):  # nothing failed: it wanted to go on for somebody who has gone
        logger.error("the callback of %s failed", of, exc_info=error)
