"""API of worker scripts: `@Task`, `HandlerClass`, `context`, process hooks and `run()`. It does not import tornado."""

from crew.worker.context import context
from crew.worker.hooks import on_process_start, on_process_stop
from crew.worker.run import run
from crew.worker.task import HandlerClass, Task

__all__ = ["HandlerClass", "Task", "context", "on_process_start", "on_process_stop", "run"]
