"""Which execution runs here: one a thread, or one an asyncio task."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution

running: ContextVar["Execution | None"] = ContextVar("running", default=None)
