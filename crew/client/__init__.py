"""The caller: `Client` for asyncio and Tornado, `crew.client.blocking.Client` for scripts and threads."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from crew.client.calling.call import PendingCall
    from crew.client.calling.parallel import Parallel
    from crew.client.calling.scope import Scope
    from crew.client.client import Client
    from crew.client.events.subscription import Event, Subscription
    from crew.client.task_ref import TaskRef

__all__ = ["Client", "Event", "Parallel", "PendingCall", "Scope", "Subscription", "TaskRef"]

_MODULES: Final = {
    "Client": "client",
    "Event": "events.subscription",
    "Parallel": "calling.parallel",
    "PendingCall": "calling.call",
    "Scope": "calling.scope",
    "Subscription": "events.subscription",
    "TaskRef": "task_ref",
}


def __getattr__(name: str) -> object:
    """Each name is loaded when it is first asked for: a worker makes nested calls, but has no `Client`."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
