"""The states of a link, and every move between them.

    CLOSED ──open──> CONNECTING ──connected──> DECLARING ──declared──> READY
                      ^     │ └──refused──┐      │  │                    │
                     open   │             │  refused│                    │
                      │   failed          v      │ failed             failed
                      └─── LOST           REFUSED   └───> LOST <─────────┘

A link that is LOST waits, then connects again: for ever, until it is closed or the broker refuses the login, which no
further attempt would mend; somebody may still ask a REFUSED link to open. CLOSING may begin anywhere. An illegal move
is a bug in the link and raises.
"""

import enum
import logging

logger = logging.getLogger(__name__)


class LinkState(enum.Enum):
    """What a link is doing."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    DECLARING = "declaring"
    READY = "ready"
    LOST = "lost"
    REFUSED = "refused"
    CLOSING = "closing"


class LinkEvent(enum.Enum):
    """What happens to a link."""

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
    """The state of one link: moves by the table, logs every move.

    Args:
        name: the link's, for the log.
    """

    def __init__(self, name: str) -> None:
        self.state = LinkState.CLOSED
        self._name = name

    def __repr__(self) -> str:
        return f"<LinkStateMachine {self._name}: {self.state.value}>"

    def move(self, event: LinkEvent) -> LinkState:
        """Return the state that `event` leads to; raises RuntimeError where the table has no such move."""
        target = TRANSITIONS[self.state].get(event)
        if target is None:
            raise RuntimeError(f"link {self._name} is {self.state.value}: {event.value!r} cannot happen now")
        logger.debug("link %s: %s -> %s", self._name, self.state.value, target.value)
        self.state = target
        return target
