"""Tasks with a signature, which no worker serves."""

from collections.abc import Callable
from typing import Any

from crew.signatures.registered import RegisteredTask
from crew.signatures.signature import Signature, signature_of


class ATask:
    """What callers and gateways use of a task."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self._signature = signature_of(name, function)

    @property
    def signature(self) -> Signature:
        """Its parameters and result."""
        return self._signature


def a_registered_task(name: str, function: Callable[..., Any]) -> RegisteredTask:
    """A task that is this function."""
    return ATask(name, function)
