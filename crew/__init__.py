"""crew: call tasks in worker processes over RabbitMQ from a Tornado application.

    from crew import Client                     # in the gateway: await Client().call("resize", {"width": 640})
    from crew.worker import Task, context, run  # in a worker script

`crew.errors` shows the tree of errors.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from crew import errors, log
from crew.errors import (
    Canceled,
    ConnectionError,
    CrewError,
    DuplicateCallId,
    ExpirationError,
    Interrupt,
    InvalidArguments,
    KeyReused,
    MessageRefused,
    Overloaded,
    SerializationError,
    SettingsError,
    TaskError,
    TaskFailed,
    TimeoutError,
    TooLarge,
    UnknownJob,
    UnknownTask,
    WorkerLost,
)

if TYPE_CHECKING:
    from crew.client import Client

__version__ = "0.2.0"

log.set_up(__name__, Path(__file__).parent)

__all__ = [  # noqa: RUF022  # grouped for its reader
    # the caller
    "Client",
    # errors
    "CrewError",
    "TaskError",
    "TimeoutError",
    "ExpirationError",
    "TaskFailed",
    "InvalidArguments",
    "UnknownTask",
    "DuplicateCallId",
    "Canceled",
    "WorkerLost",
    "MessageRefused",
    "Overloaded",
    "UnknownJob",
    "KeyReused",
    "ConnectionError",
    "SerializationError",
    "TooLarge",
    "SettingsError",
    # raised inside a task
    "Interrupt",
    # release
    "__version__",
]


def __getattr__(name: str) -> object:
    """`Client` comes with the AMQP stack, so it is loaded when it is first asked for."""
    if name == "Client":
        from crew.client import Client

        return Client
    if name == "DuplicateTaskId":  # deprecated
        return errors.DuplicateTaskId
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
