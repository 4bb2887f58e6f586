"""API of worker scripts: `@Task`, `HandlerClass`, `context`, process hooks and `run()`. It does not import tornado."""

from typing import TYPE_CHECKING

from crew.worker.context import context
from crew.worker.hooks import on_process_start, on_process_stop
from crew.worker.task import HandlerClass, Task

if TYPE_CHECKING:
    from crew.worker.command import run

__all__ = ["HandlerClass", "Task", "context", "on_process_start", "on_process_stop", "run"]


def __getattr__(name: str) -> object:
    """`run` comes with the command line, so it is loaded when it is first asked for."""
    if name == "run":
        from crew.worker.command import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
