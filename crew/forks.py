"""Callbacks after a fork: a forked child drops the connections, threads and event loops of its parent.

A fork copies objects whose threads and event loops run only in the parent, and descriptors of the parent's sockets.
Such objects register for `on_forked`, which is called in the child right after the fork: they close their copies of the
sockets without using them, and start again. Nothing is done in the parent, and nothing per call.
"""

import logging
import os
import weakref
from typing import Final, Protocol

logger = logging.getLogger(__name__)


class ForkAware(Protocol):
    """An object that must be informed in a forked child."""

    def on_forked(self) -> None:
        """Drop the parent's resources. Runs in the new child; must not block, nor use the parent's event loop."""


_registered: Final["weakref.WeakSet[ForkAware]"] = weakref.WeakSet()
_kept_alive: Final[list[object]] = []


def register(one: ForkAware) -> None:
    """Call `one.on_forked()` in every child that this process or its children fork; only a weak reference is held."""
    _registered.add(one)


def keep_alive(*objects: object) -> None:
    """Prevent the finalizers of the parent's objects in this child: they would affect the parent.

    Parent and child share the epoll descriptor of an event loop: closing a transport in the child would unregister it
    in the parent.
    """
    _kept_alive.extend(objects)


def _on_forked() -> None:
    for one in list(_registered):
        try:
            one.on_forked()
        except Exception:  # the others must still be called
            logger.exception("after fork: %r cannot be used in this process", one)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_on_forked)
