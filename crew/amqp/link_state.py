"""The states of a link, and every transition between them.

    CLOSED ──open──> CONNECTING ──connected──> DECLARING ──declared──> READY
                      ^     │ └──refused──┐      │  │                    │
                     open   │             │  refused│                    │
                      │   failed          v      │ failed             failed
                      └─── LOST           REFUSED   └───> LOST <─────────┘

A LOST link waits, then reconnects. It retries for ever, until it is closed or the broker refuses the login: a retry
does not help then. A REFUSED link can be opened again. CLOSING may begin in every state. An illegal transition is a bug
in the link and raises.
"""

import enum
import logging

logger = logging.getLogger(__name__)


class LinkState(enum.Enum):
    """The state of a link."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    DECLARING = "declaring"
    READY = "ready"
    LOST = "lost"
    REFUSED = "refused"
    CLOSING = "closing"


class LinkEvent(enum.Enum):
    """An event that changes the state of a link."""

    OPEN = "open"
    CONNECTED = "connected"
    DECLARED = "declared"
    FAILED = "failed"
    REFUSED = "refused"
    CLOSE = "close"
    CLOSED = "closed"


TRANSITIONS: dict[LinkState, dict[LinkEvent, LinkState]] = {
    LinkState.CLOSED: {LinkEvent.OPEN: LinkState.CONNECTING, LinkEvent.CLOSE: LinkState.CLOSING},
    LinkState.CONNECTING: {
        LinkEvent.CONNECTED: LinkState.DECLARING,
        LinkEvent.FAILED: LinkState.LOST,
        LinkEvent.REFUSED: LinkState.REFUSED,
        LinkEvent.CLOSE: LinkState.CLOSING,
    },
    LinkState.DECLARING: {
        LinkEvent.DECLARED: LinkState.READY,
        LinkEvent.FAILED: LinkState.LOST,
        LinkEvent.REFUSED: LinkState.REFUSED,
        LinkEvent.CLOSE: LinkState.CLOSING,
    },
    LinkState.READY: {LinkEvent.FAILED: LinkState.LOST, LinkEvent.CLOSE: LinkState.CLOSING},
    LinkState.LOST: {LinkEvent.OPEN: LinkState.CONNECTING, LinkEvent.CLOSE: LinkState.CLOSING},
    LinkState.REFUSED: {LinkEvent.OPEN: LinkState.CONNECTING, LinkEvent.CLOSE: LinkState.CLOSING},
    LinkState.CLOSING: {LinkEvent.CLOSED: LinkState.CLOSED},
}


class LinkStateMachine:
    """The state of one link: follows the table and logs every transition.

    Args:
        name: name of the link, for the log.
    """

    def __init__(self, name: str) -> None:
        self.state = LinkState.CLOSED
        self._name = name

    def __repr__(self) -> str:
        return f"<LinkStateMachine {self._name}: {self.state.value}>"

    def move(self, event: LinkEvent) -> LinkState:
        """Change the state by `event` and return the new state; raise RuntimeError where the table forbids it."""
        target = TRANSITIONS[self.state].get(event)
        if target is None:
            raise RuntimeError(
                f"link {self._name} is {self.state.value}: event {event.value!r} is not allowed in this state"
            )
        logger.debug("link state changed: %s -> %s link=%r", self.state.value, target.value, self._name)
        self.state = target
        return target
