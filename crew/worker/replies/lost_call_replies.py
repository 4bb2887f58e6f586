"""Replies to lost calls: those that another process of this worker ran when it died, and that are not redelivered."""

import functools
import logging
import socket
import time

import msgspec

from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.shared_state.shared_state import SharedState

logger = logging.getLogger(__name__)


class LostCallReplies:
    """Replies to the lost calls in the shared state. All methods run on the I/O thread."""

    def __init__(self, shared_state: SharedState, replies: ReplyPublisher) -> None:
        self._shared_state = shared_state
        self._replies = replies
        self._sending: set[int] = set()  # slots of the shared state whose reply is not yet confirmed

    def __repr__(self) -> str:
        return f"<LostCallReplies: {len(self._sending)} not confirmed>"

    def send(self) -> None:
        """Reply to all lost calls; while the broker is away the replies wait in the outbox."""
        for slot, lost in self._shared_state.unanswered().items():
            if slot not in self._sending:
                self._sending.add(slot)
                result = lost.result(socket.gethostname())
                run = None if lost.run is None else msgspec.structs.replace(lost.run, ended=time.time())
                logger.warning("lost call: replying to its caller: %s call_id=%s", result.message, lost.id)
                self._replies.reply(lost.call, result, functools.partial(self._on_replied, slot), run=run)

    def _on_replied(self, slot: int) -> None:
        self._shared_state.mark_replied(slot)
        self._sending.discard(slot)
