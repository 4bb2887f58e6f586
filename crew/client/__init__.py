"""The caller: `Client` for asyncio and Tornado, `crew.client.blocking.Client` for scripts and threads."""

from crew.client.calling.call import PendingCall
from crew.client.calling.parallel import Parallel
from crew.client.calling.scope import Scope
from crew.client.client import Client
from crew.client.events.subscription import Event, Subscription

__all__ = ["Client", "Event", "Parallel", "PendingCall", "Scope", "Subscription"]
