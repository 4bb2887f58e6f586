"""The two links of a client: one publishes, one consumes. An alarm of the broker blocks only the publishing one."""

import asyncio
from collections.abc import Callable
from typing import Final

from crew import errors
from crew.amqp import BrokerClock, Link, Outage, Signer
from crew.protocol import topology
from crew.settings import Settings

BLOCKED: Final = "the broker has blocked publishing: it is short of memory or disk"


class Links:
    """The publishing and the consuming link. They open and close together.

    Args:
        name: shown in the broker's lists.
        on_ready: called whenever one of them has become ready.
        on_refused: called with the error when the broker refuses the connection.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        *,
        on_ready: Callable[[], None],
        on_refused: Callable[[errors.ConnectionError], None],
    ) -> None:
        self.outage = Outage()  # shared with other links of the client
        clock = BrokerClock(watch_interval=settings.tuning.clock_watch_interval)
        self.signer = signer = Signer.of(settings.signing_keys, clock)
        options = {
            "topology": topology.EXCHANGES,
            "outage": self.outage,
            "signer": signer,
            "on_ready": on_ready,
            "on_refused": on_refused,
        }
        self.publishing = Link(settings, name=f"{name} publish", clock=clock, **options)  # type: ignore[arg-type]
        if signer is not None:  # the time of a signed event is compared with the broker's clock
            options["before_consuming"] = clock.compared
        self.consuming = Link(settings, name=f"{name} consume", **options)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<Links: publishing {self.publishing.state.value}, consuming {self.consuming.state.value}>"

    @property
    def are_ready(self) -> bool:
        """Whether both are ready."""
        return self.publishing.is_ready and self.consuming.is_ready

    def open(self) -> None:
        """Start to connect; idempotent."""
        self.publishing.open()
        self.consuming.open()

    async def ready(self, timeout: float | None) -> None:
        """Wait for both; raises ConnectionError if they were refused or closed, or `timeout` seconds are over."""
        try:
            async with asyncio.timeout(timeout):
                await self.consuming.ready()
                await self.publishing.ready()
        except TimeoutError:
            why = (
                f": {fault}{fault.advice}" if (fault := self.consuming.last_error or self.publishing.last_error) else ""
            )
            raise errors.ConnectionError(
                f"connection timeout: the broker was not reached within {timeout:g} s{why}"
            ) from None

    async def close(self) -> None:
        """Close both; idempotent."""
        await asyncio.gather(self.publishing.close(), self.consuming.close())

    def drop(self) -> None:
        """Close the sockets of both, and nothing else: their event loop is closed."""
        self.publishing.drop()
        self.consuming.drop()


def has_running_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
