"""Exchanges of the in-memory broker: which queues get a message."""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

TYPES: Final = ("direct", "fanout", "topic", "headers")
_ALL_WITH_X: Final = "all-with-x"
_ANY_WITH_X: Final = "any-with-x"


class Binding(msgspec.Struct, frozen=True):
    """Sends messages of an exchange to `queue`."""

    queue: str
    key: str
    arguments: Mapping[str, Any]


class Exchange:
    """A direct, fanout, topic or headers exchange.

    Args:
        type: one of `TYPES`.
    """

    def __init__(self, name: str, type: str, *, durable: bool, auto_delete: bool, internal: bool = False) -> None:
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.bindings: list[Binding] = []

    def __repr__(self) -> str:
        return f"<Exchange {self.name} {self.type}: {len(self.bindings)} bindings>"

    def bind(self, binding: Binding) -> None:
        """Add `binding`, unless it exists."""
        if binding not in self.bindings:
            self.bindings.append(binding)

    def unbind(self, binding: Binding) -> None:
        """Remove `binding`; do nothing where it does not exist."""
        if binding in self.bindings:
            self.bindings.remove(binding)

    def forget(self, queue: str) -> None:
        """Remove the bindings of a queue that is deleted."""
        self.bindings = [binding for binding in self.bindings if binding.queue != queue]

    def route(self, routing_key: str, headers: Mapping[str, Any]) -> Iterable[str]:
        """Names of the queues that get a message, each once."""
        return dict.fromkeys(one.queue for one in self.bindings if self._matches(one, routing_key, headers))

    def _matches(self, binding: Binding, routing_key: str, headers: Mapping[str, Any]) -> bool:
        if self.type == "fanout":
            return True
        if self.type == "direct":
            return binding.key == routing_key
        if self.type == "topic":
            return topic_pattern(binding.key).fullmatch(routing_key) is not None
        return headers_match(binding.arguments, headers)


@functools.lru_cache(maxsize=1024)
def topic_pattern(key: str) -> re.Pattern[str]:
    """The regular expression of a topic binding: `*` is one word, `#` any number of words."""
    if key == "#":
        return re.compile(r".*", re.DOTALL)
    pattern = ""
    for number, word in enumerate(key.split(".")):
        dot = r"\." if number else ""
        if word == "#":
            pattern += r"(\.[^.]*)*" if number else r"([^.]*(\.[^.]*)*)?"
        else:
            pattern += dot + (r"[^.]*" if word == "*" else re.escape(word))
    if key.startswith("#."):
        pattern = rf"([^.]*\.)*{topic_pattern(key[2:]).pattern}"
    return re.compile(pattern, re.DOTALL)


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Whether a headers binding matches: arguments that begin with `x-` count only with `x-match=*-with-x`."""
    mode = arguments.get("x-match", "all")
    with_x = mode in (_ALL_WITH_X, _ANY_WITH_X)
    wanted = {
        name: value for name, value in arguments.items() if name != "x-match" and (with_x or not name.startswith("x-"))
    }
    matches = (name in headers and value in (None, headers[name]) for name, value in wanted.items())
    return any(matches) if mode in ("any", _ANY_WITH_X) else all(matches)
