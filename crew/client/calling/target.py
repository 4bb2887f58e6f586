"""The task that is called with arguments: its name, and its signature where its function is at hand."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from crew.protocol import topology
from crew.protocol.arguments import check_names
from crew.protocol.encoding.call_arguments import Arguments
from crew.signatures.registered import task_of
from crew.signatures.signature import Signature


class Target(msgspec.Struct, frozen=True):
    """A task, and the options with which it is called.

    Attributes:
        task: name of the task.
        signature: of its function; None where only the name is known.
        options: of its calls.
    """

    task: str
    signature: Signature | None
    options: dict[str, Any]

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """The arguments as they travel; raises InvalidArguments if they do not fit the signature."""
        return Arguments(args, kwargs) if self.signature is None else self.signature.arguments(args, kwargs)

    @property
    def read_result(self) -> Callable[[Any], Any] | None:
        """Reads the value back by the annotation of the function; None: there is nothing to read back."""
        signature = self.signature
        return None if signature is None or signature.result is Any else signature.read_result


def target_of(task: str | Callable[..., Any], options: dict[str, Any], known: Collection[str]) -> Target:
    """The target of `client.task(task, **options)`.

    Args:
        task: the name of a task, or a function with `@Task` above it.
        options: by their names.
        known: names of all options.

    Raises:
        TypeError: there is no such option.
        ValueError: `task` is no name, or a function that is no task.
        SettingsError: values cannot be converted by the annotations of the function.
    """
    check_names("task", options, known)
    if callable(task):
        registered = task_of(task)
        return Target(registered.name, registered.signature, options)
    return Target(topology.check_name("task", task), None, options)
