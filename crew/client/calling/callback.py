"""Runs the callbacks of users, functions and coroutine functions, and logs their errors."""

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from crew.errors import is_abandonment

logger = logging.getLogger(__name__)

_running: set["asyncio.Future[Any]"] = set()  # keeps the tasks alive: a loop has only weak references


def call_back(callback: Callable[..., object], *args: Any, of: str) -> None:
    """Call `callback(*args)`; a coroutine that it returns runs as a task.

    CancelledError is caught, too, as a callback may use a canceled future. It is no Exception, and would otherwise
    stop the reader of the connection, or the timer of all calls.

    Args:
        of: fields that identify the callback in the log.
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
    if not is_abandonment(error):  # that is no failure: its scope was abandoned
        logger.error("callback failed: %s", of, exc_info=error)
