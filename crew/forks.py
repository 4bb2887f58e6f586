"""What a forked child does with the connections, threads and event loops of its parent.

A fork copies objects whose threads and event loops run in the parent alone, and descriptors of sockets over which the
parent talks. Objects that hold any of these ask for `on_forked`, which is called in the child right after the fork:
there they close their copies of the sockets without using them, and begin anew. Nothing is done in the parent, and
nothing per call.
"""

import logging
import os
import weakref
from typing import Final, Protocol

logger = logging.getLogger(__name__)


class Forked(Protocol):
    """What is told in a forked child."""

    def on_forked(self) -> None:
        """This process is a new child. It must not wait, and not use what belongs to the event loop of the parent."""


_told: Final["weakref.WeakSet[Forked]"] = weakref.WeakSet()
_kept: Final[list[object]] = []


def tell(one: Forked) -> None:
    """Call `one.on_forked()` in every child that this process, or a child of it, forks; `one` may end before."""
    _told.add(one)


def keep(*parents: object) -> None:
    """Keep objects of the parent in this child: their finalizers would act on what the parent still uses.

    The descriptor of an event loop's epoll is shared with the parent: closing a transport here would unregister it
    there.
    """
    _kept.extend(parents)


def _on_forked() -> None:
    for one in list(_told):
        try:
            one.on_forked()
        except Exception:  # what it is told of is up to each of them
            logger.exception("%r cannot be used in this forked process", one)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_on_forked)
