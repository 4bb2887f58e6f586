"""What the tasks and threads of a test wait for, as text."""

import asyncio
import sys
import threading
import traceback
from typing import Final

from crew.worker.execution.async_exception import stack_of_coroutine

_MOST: Final = 20  # tasks and threads that are shown


def report(loop: asyncio.AbstractEventLoop | None) -> str:
    """The stacks of the asyncio tasks of `loop` and of all other threads."""
    tasks = [] if loop is None else list(asyncio.all_tasks(loop))[:_MOST]
    parts = [f"asyncio task {one.get_name()!r} waits at:\n{stack_of_coroutine(one.get_coro())}" for one in tasks]
    frames = sys._current_frames()
    threads = [(one.name, frames.get(one.ident or 0)) for one in threading.enumerate()[:_MOST]]
    parts += [f"thread {name!r}:\n{''.join(traceback.format_stack(frame))}" for name, frame in threads if frame]
    return "\n".join(parts)
