"""Tells the callers of what has died with another process of this worker that nobody runs it again."""

import functools
import logging
import socket
import time

import msgspec

from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.shared_state.shared_state import SharedState

logger = logging.getLogger(__name__)


class LostCallReplies:
    """Answers what stands in the ledger as dead. All of it on the I/O thread."""

    def __init__(self, shared_state: SharedState, replies: ReplyPublisher) -> None:
        self._shared_state = shared_state
        self._replies = replies
        self._going_on: set[int] = set()  # slots of the ledger whose callers are being told

    def __repr__(self) -> str:
        return f"<LostCallReplies: {len(self._going_on)} going on>"

    def look(self) -> None:
        """Tell the callers of all that is there; where the broker is away, when it is back."""
        for slot, one in self._shared_state.unanswered().items():
            if slot not in self._going_on:
                self._going_on.add(slot)
                ended = one.ended(socket.gethostname())
                run = None if one.run is None else msgspec.structs.replace(one.run, ended=time.time())
                logger.warning("call %s is answered: %s", one.id, ended.message)
                self._replies.answer(one.call, ended, functools.partial(self._on_told, slot), run=run)

    def _on_told(self, slot: int) -> None:
        self._shared_state.mark_replied(slot)
        self._going_on.discard(slot)
