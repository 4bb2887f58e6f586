"""Message signatures: a program without the key can neither forge a message nor change one.

With `CREW_SIGNING_KEY`, the property `app_id` of each message holds a message authentication code: keyed BLAKE2b (RFC
7693) with 256 bits. It covers every part of the message that affects its receiver:

    address, time of signing, type, correlation_id, message_id, reply_to, priority, delivery_mode,
    content_type, content_encoding, headers, body

encoded as one MessagePack array with sorted header names. Its elements contain their type and length, so that no two
messages have the same encoding. A body above `DIGESTED_ABOVE` bytes is represented by its length and SHA-256.

The address says what the message is for: the task of a call, the queue of a reply or report, the routing key of an
event, a control message or a revocation request. A receiver derives it from the queue that it consumes, so that a
message which was signed for one place is refused in another.

The signature does not cover what a broker may change: `expiration`, `timestamp`, and headers that it adds. So it stays
valid when a message is redelivered, expires into a dead-letter exchange, waits in a retry queue, or is moved to another
queue by `crew queues migrate`.

Calls end by their deadline, and replies by the call that they answer. Events, control messages and revocation requests
have no such end. So they carry the time at which they were signed, and are refused more than `FRESH_FOR` seconds later,
by the broker's clock.

Each call signs or checks two messages in each of its processes. Between two messages a process runs enough other code
to empty the CPU's caches, so that this code must be small. HMAC-SHA256 with OpenSSL took three times as long here as
BLAKE2b, which is one small object in Python itself. The signature is in `app_id`, because a header would cost both ends
a microsecond for each message.
"""

import functools
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from crew.protocol import topology
from crew.protocol.message import Headers
from crew.protocol.properties import APP_ID, TASK, Properties

SIGNED: Final = (
    f"{APP_ID} 1."  # followed by the code in hexadecimal; for types that expire also a dot and epoch seconds
)
FRESH_FOR: Final = 300.0  # seconds: as long as a disconnect that loses no message
DIGESTED_ABOVE: Final = 1024  # bytes of a body; SHA-256 takes half the time of BLAKE2b there, where the CPU supports it
OF_BROKER: Final = (
    "CC",
    "BCC",
    "timestamp_in_ms",
)  # headers that RabbitMQ adds if configured so; it also adds "x-" headers

_MAC_SIZE: Final = 32  # bytes
_MAC_AT: Final = len(SIGNED)
_MAC_END: Final = _MAC_AT + 2 * _MAC_SIZE
_EXPIRE: Final = frozenset({"event", "control", "briefing"})  # message types to which FRESH_FOR applies
_TASK_QUEUES: Final = (topology.TASK_PREFIX, topology.AGAIN_PREFIX, topology.HOLDING_PREFIX)

Sign = Callable[[str, Properties, bytes], None]
Refusal = Callable[[str, Properties, bytes], str | None]

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_compare: Final = hmac.compare_digest


class Signing:
    """Signs with the first key, and accepts signatures with any of the keys.

    Args:
        keys: at least one key, see `crew.settings.load`.
        now: epoch seconds, by the broker's clock.

    Attributes:
        sign: function of the routing key, the properties and the body of a message before it is published. It sets the
            signature in the properties, in place of an earlier one.
    """

    def __init__(self, keys: Sequence[str], now: Callable[[], float]) -> None:
        self._macs = tuple(map(_begun, keys))
        self._now = now
        self.sign: Sign = _sign_with(self._macs[0], now)

    def __repr__(self) -> str:
        return f"<Signing with {len(self._macs)} keys>"

    def check(self, queue: str) -> Refusal:
        """Return a function that checks the messages of `queue`.

        Returns:
            A function of the routing key, the properties and the body of a message. It returns None for a valid
            signature for this queue, else the reason for the refusal in one sentence.
        """
        usual_type, usual_address, other_address = _addresses(queue)
        begin = self._macs[0]

        def refusal(routing_key: str, properties: Properties, body: bytes) -> str | None:
            signature, type = properties.app_id, properties.type
            if signature is None or signature[:_MAC_AT] != SIGNED:
                return "it has no signature"
            try:
                if type == usual_type:
                    address = usual_address or routing_key
                elif (address := other_address(properties)) == "":
                    return f"messages of type {type!r:.40} are not allowed in this queue"
                content = body if len(body) <= DIGESTED_ABOVE else _digest(body)
                mac = _mac(begin, address, signature[_MAC_END:], properties, properties.headers, content)
                if not (
                    _compare(mac, signature[_MAC_AT:_MAC_END])
                    or self._is_signed(signature, address, properties, content)
                ):
                    return "its signature is wrong"
                if type in _EXPIRE:
                    age = self._now() - int(signature[_MAC_END + 1 :])
                    if abs(age) > FRESH_FOR:
                        return f"its signature has expired: {abs(age):.0f} s {'old' if age > 0 else 'in the future'}"
            except Exception:  # from any program: a header may have any type, a number any size
                return "its signature cannot be decoded"
            return None

        return refusal

    def _is_signed(self, signature: str, address: str, properties: Properties, content: "Content") -> bool:
        """Whether another key made the signature, or the broker has added headers to a signed message."""
        headers, mac, at = properties.headers, signature[_MAC_AT:_MAC_END], signature[_MAC_END:]
        may_be = [headers]
        if headers:
            sent = {name: value for name, value in headers.items() if name[:2] != "x-" and name not in OF_BROKER}
            may_be = [headers, sent] if sent else [headers, {}, None]
        return any(
            _compare(_mac(begin, address, at, properties, of, content), mac) for begin in self._macs for of in may_be
        )


Content = bytes | tuple[int, bytes]  # a body, or its length and digest
_Begin = Callable[[], "hashlib.blake2b"]  # returns a new code with its key


def _begun(key: str) -> _Begin:
    """Return a factory of codes. Their key is a digest of `key`, as RFC 7693 allows 64 bytes."""
    return hashlib.blake2b(key=hashlib.blake2b(key.encode()).digest(), digest_size=_MAC_SIZE).copy


def _digest(body: bytes) -> Content:
    return len(body), hashlib.sha256(body).digest()


def _mac(
    begin: _Begin, address: str, at: str, properties: Properties, headers: Headers | None, content: Content
) -> str:
    """Return the code of a message in hexadecimal.

    Args:
        at: time of signing, as in the signature.
    """
    mac = begin()
    mac.update(
        _encode(
            (
                address,
                at,
                properties.type,
                properties.correlation_id,
                properties.message_id,
                properties.reply_to,
                properties.priority,
                properties.delivery_mode,
                properties.content_type,
                properties.content_encoding,
                headers,
                content,
            )
        )
    )
    return mac.hexdigest()


def _sign_with(begin: _Begin, now: Callable[[], float]) -> Sign:
    def sign(routing_key: str, properties: Properties, body: bytes) -> None:
        type = properties.type
        address = _address_of_call(routing_key) if type == "call" else routing_key
        at = f".{int(now())}" if type in _EXPIRE else ""
        content = body if len(body) <= DIGESTED_ABOVE else _digest(body)
        properties.app_id = SIGNED + _mac(begin, address, at, properties, properties.headers, content) + at

    return sign


# --- addresses ------------------------------------------------------------------------------------------------------


@functools.lru_cache(1024)  # a client calls the same tasks again and again
def _address_of_call(routing_key: str) -> str:
    """Return the address of a call that is published with this routing key."""
    if routing_key.startswith(_TASK_QUEUES):
        return topology.task_queue_name(topology.task_of_queue(routing_key))
    return routing_key


def _addresses(queue: str) -> tuple[str | None, str, Callable[[Properties], str]]:
    """Return the addresses of messages in `queue`.

    Returns:
        The usual message type in the queue; the address of these messages, or "" for their routing key; and a function
        for messages of other types, which returns their address, or "" where they are not allowed.
    """
    if queue.startswith(_TASK_QUEUES):
        return "call", _address_of_call(queue), _no_address
    if queue.startswith(topology.REPLY_PREFIX):
        client = queue.removeprefix(topology.REPLY_PREFIX)
        return "reply", queue, lambda properties: _address_of_return(client, properties)
    if topology.is_jobs_queue(queue):
        return "reply", queue, lambda properties: _address_in_jobs(queue, properties)
    if queue.startswith(topology.CONTROL_PREFIX):
        return "control", "", _no_address
    if queue.startswith(topology.SUBSCRIPTION_PREFIX):
        return "event", "", _no_address
    return "call", queue, lambda properties: queue  # a parked message may have any type


def _no_address(properties: Properties) -> str:
    return ""


def _address_in_jobs(queue: str, properties: Properties) -> str:
    return topology.REVOCATION_REQUEST if properties.type == "briefing" else _address_of_return(queue, properties)


def _address_of_return(client: str, properties: Properties) -> str:
    """Return the address of a call of `client` that the broker has dead-lettered; "" for other messages."""
    headers = properties.headers or {}
    is_return = properties.type == "call" and "x-first-death-reason" in headers
    if not is_return or headers.get(topology.CLIENT_HEADER) != client:
        return ""
    return topology.task_queue_name(headers[TASK])
