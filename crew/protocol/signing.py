"""Signatures of messages: who has no key can neither forge a message nor change one.

With `CREW_SIGNING_KEY`, each message carries the header `crew-signature`, an HMAC-SHA256 (RFC 2104) over all of it that
changes what its receiver does:

    version, address, time of signing, type, correlation_id, message_id, reply_to, priority, delivery_mode,
    content_type, content_encoding, headers, body

encoded as one MessagePack array, whose elements carry their type and length, with the names of headers in order. So no
two messages have the same encoding. A body above `DIGESTED_ABOVE` bytes stands there as its length and SHA-256.

The address says what the message is for: the task of a call, the queue of a reply or report, the routing key of an
event, a control message or a briefing. A receiver derives it from the queue that it consumes, so that a message which
was signed for one place is refused in another.

Not signed is what a broker may change on the way: `expiration` and `timestamp`, headers that begin with "x-", and
`OF_BROKER`. So a signature stays valid when a message is delivered again, expires into a dead-letter exchange, waits in
a retry queue, or is moved to another queue by `crew queues migrate`.

Calls end by their deadline, and replies by the call that they answer. Events, control messages and briefings have no
such end, so that they are refused when they were signed more than `FRESH_FOR` seconds ago, by the broker's clock.
"""

import functools
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from crew.protocol import topology
from crew.protocol.message import Headers
from crew.protocol.properties import TASK, Properties

SIGNATURE: Final = "crew-signature"  # "<version>.<epoch seconds in hexadecimal>.<HMAC in hexadecimal>"
VERSION: Final = "1"
FRESH_FOR: Final = 300.0  # seconds: as long as a disconnect that loses no message; clocks may differ by a few more
DIGESTED_ABOVE: Final = 512  # bytes of a body
OF_BROKER: Final = ("CC", "BCC", "timestamp_in_ms")  # headers that RabbitMQ adds where it is told to

_VERSION: Final = f"{VERSION}."
_MAC_SIZE: Final = 65  # characters, with the dot before it

_BLOCK: Final = 64  # bytes of a block of SHA-256
_EXPIRE: Final = frozenset({"event", "control", "briefing"})  # types of message that FRESH_FOR is for
_TASK_QUEUES: Final = (topology.TASK_PREFIX, topology.AGAIN_PREFIX, topology.HOLDING_PREFIX)

Refusal = Callable[[str, Properties, bytes], str | None]

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_compare = hmac.compare_digest


class Signing:
    """Signs with the first of `keys`, and accepts what was signed with any of them.

    Args:
        keys: at least one, as the settings have them; see `crew.settings.load`.
        now: epoch seconds, by the broker's clock.
    """

    def __init__(self, keys: Sequence[str], now: Callable[[], float]) -> None:
        self._macs = tuple(map(_mac, keys))
        self._now = now

    def __repr__(self) -> str:
        return f"<Signing with {len(self._macs)} keys>"

    def sign(self, routing_key: str, properties: Properties, body: bytes) -> None:
        """Add the signature to the headers of `properties`, in place of an earlier one.

        Args:
            routing_key: with which the message is published.
        """
        headers = {} if properties.headers is None else properties.headers.copy()
        if SIGNATURE in headers:
            del headers[SIGNATURE]
        at = int(self._now())
        mac = self._macs[0](_form(_address(properties.type, routing_key), at, properties, headers, body))
        headers[SIGNATURE] = f"{VERSION}.{at:x}.{mac}"
        properties.headers = headers

    def check(self, queue: str) -> Refusal:
        """What says of each message of `queue` why it has to be refused.

        Returns:
            A function of the routing key, the properties and the body of a message. It returns None for a message that
            is signed for this queue, else one sentence.
        """
        address_in = _addresses(queue)

        def refusal(routing_key: str, properties: Properties, body: bytes) -> str | None:
            headers = properties.headers
            if not headers or (signature := headers.get(SIGNATURE)) is None:
                return "it has no signature"
            try:
                address = address_in(routing_key, properties)
                if address is None:
                    return f"a message of type {properties.type!r:.40} has no business here"
                at = self._signed_at(signature, address, properties, headers.copy(), body)
            except Exception:  # anybody may have sent it: a header of any type, a number of any size
                return "its signature cannot be read"
            if at is None:
                return "its signature is wrong"
            if properties.type in _EXPIRE and abs(age := self._now() - at) > FRESH_FOR:
                return f"its signature is not of now, but {abs(age):.0f} s {'old' if age > 0 else 'ahead'}"
            return None

        return refusal

    def _signed_at(
        self, signature: str, address: str, properties: Properties, headers: Headers, body: bytes
    ) -> int | None:
        """When it was signed with one of the keys, in epoch seconds; None where it was not."""
        if not signature.startswith(_VERSION):
            return None
        at, mac = int(signature[len(_VERSION) : -_MAC_SIZE], 16), signature[1 - _MAC_SIZE :]
        del headers[SIGNATURE]
        if self._is_of_key(mac, _form(address, at, properties, headers, body)):
            return at
        sent = {name: value for name, value in headers.items() if name[:2] != "x-" and name not in OF_BROKER}
        if len(sent) < len(headers) and self._is_of_key(mac, _form(address, at, properties, sent, body)):
            return at
        return None

    def _is_of_key(self, mac: str, form: bytes) -> bool:
        for mac_of in self._macs:  # noqa: SIM110  # as any() this takes three times as long
            if _compare(mac_of(form), mac):
                return True
        return False


def _mac(key: str) -> Callable[[bytes], str]:
    """HMAC-SHA256 with `key`, in hexadecimal.

    The two hashes are begun once a key (RFC 2104 §4), which takes half the time of `hmac.digest` a message.
    """
    raw = key.encode()
    block = (raw if len(raw) <= _BLOCK else hashlib.sha256(raw).digest()).ljust(_BLOCK, b"\0")
    begin_inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block)).copy
    begin_outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block)).copy

    def mac(form: bytes) -> str:
        inner, outer = begin_inner(), begin_outer()
        inner.update(form)
        outer.update(inner.digest())
        return outer.hexdigest()

    return mac


def _form(address: str, at: int, p: Properties, headers: Headers, body: bytes) -> bytes:
    """What is signed."""
    return _encode(
        (
            VERSION,
            address,
            at,
            p.type,
            p.correlation_id,
            p.message_id,
            p.reply_to,
            p.priority or 0,  # a broker may leave out what is 0
            p.delivery_mode,
            p.content_type,
            p.content_encoding,
            headers,
            body if len(body) <= DIGESTED_ABOVE else (len(body), hashlib.sha256(body).digest()),
        )
    )


# --- addresses ------------------------------------------------------------------------------------------------------


@functools.lru_cache(1024)  # a client calls the same tasks, a worker answers the same clients, again and again
def _address(type: str | None, routing_key: str) -> str:
    """What a message is for that is published with this routing key."""
    if type == "call" and routing_key.startswith(_TASK_QUEUES):
        return topology.task_queue_name(topology.task_of_queue(routing_key))
    return routing_key


def _addresses(queue: str) -> Callable[[str, Properties], str | None]:
    """What tells the address of a message in `queue`, by its routing key and properties; None: it is not for it."""
    if queue.startswith(_TASK_QUEUES):
        of_task = _address("call", queue)
        return lambda key, p: of_task if p.type == "call" else None
    if queue.startswith(topology.REPLY_PREFIX):
        return lambda key, p: _address_of_answer(queue, queue.removeprefix(topology.REPLY_PREFIX), p)
    if topology.is_jobs_queue(queue):
        return lambda key, p: key if p.type == "briefing" else _address_of_answer(queue, queue, p)
    for prefix, type in ((topology.CONTROL_PREFIX, "control"), (topology.SUBSCRIPTION_PREFIX, "event")):
        if queue.startswith(prefix):
            return lambda key, p, type=type: key if p.type == type else None  # type: ignore[misc]  # it is bound
    return lambda key, p: queue


def _address_of_answer(queue: str, client: str, p: Properties) -> str | None:
    """The address of a reply in `queue`, or of a call of `client` that the broker has given back."""
    if p.type == "reply":
        return queue
    headers = p.headers or {}
    if p.type == "call" and "x-first-death-reason" in headers and headers.get(topology.CLIENT_HEADER) == client:
        return topology.task_queue_name(headers[TASK])
    return None
