"""The caller: `Client` for asyncio and Tornado, `crew.client.blocking.Client` for scripts and threads."""

from crew.client.call import PendingCall
from crew.client.client import Client
from crew.client.parallel import Parallel
from crew.client.scope import Scope
from crew.client.subscription import Event, Subscription

__all__ = ["Client", "Event", "Parallel", "PendingCall", "Scope", "Subscription"]
