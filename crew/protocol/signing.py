"""Signatures of messages: a program without the key can neither forge a message nor change one.

With `CREW_SIGNING_KEY`, the property `app_id` of each message holds a message authentication code: keyed BLAKE2b (RFC
7693) with 256 bits. It covers all of the message that changes what its receiver does:

    address, time of signing, type, correlation_id, message_id, reply_to, priority, delivery_mode,
    content_type, content_encoding, headers, body

encoded as one MessagePack array, whose elements carry their type and length, with the names of headers in order. So no
two messages have the same encoding. A body above `DIGESTED_ABOVE` bytes stands there as its length and SHA-256.

The address says what the message is for: the task of a call, the queue of a reply or report, the routing key of an
event, a control message or a revocation request. A receiver derives it from the queue that it consumes, so that a
message which was signed for one place is refused in another.

Not signed is what a broker may change on the way: `expiration`, `timestamp`, and headers that it has added. So a
signature stays valid when a message is delivered again, expires into a dead-letter exchange, waits in a retry queue, or
is moved to another queue by `crew queues migrate`.

Calls end by their deadline, and replies by the call that they answer. Events, control messages and revocation requests
have no such end. So they carry the time at which they were signed, and are refused more than `FRESH_FOR` seconds later,
by the broker's clock.

A call pays for two messages in each of its processes, so that this is made for few instructions in few places: between
two messages a process runs enough other code to empty the CPU's caches. There HMAC-SHA256 over OpenSSL took three times
as long as BLAKE2b, which is one small object of Python's own. The property is `app_id` and no header, as a header costs
both ends a microsecond for each message.
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

SIGNED: Final = f"{APP_ID} 1."  # then the code in hexadecimal; for what expires also a dot and epoch seconds
FRESH_FOR: Final = 300.0  # seconds: as long as a disconnect that loses no message; clocks may differ by a few more
DIGESTED_ABOVE: Final = 1024  # bytes of a body; SHA-256 takes half the time of BLAKE2b there, where the CPU supports it
OF_BROKER: Final = ("CC", "BCC", "timestamp_in_ms")  # headers that RabbitMQ adds where it is told to; and all of "x-"

_MAC_SIZE: Final = 32  # bytes
_MAC_AT: Final = len(SIGNED)
_MAC_END: Final = _MAC_AT + 2 * _MAC_SIZE
_EXPIRE: Final = frozenset({"event", "control", "briefing"})  # types of message that FRESH_FOR is for
_TASK_QUEUES: Final = (topology.TASK_PREFIX, topology.AGAIN_PREFIX, topology.HOLDING_PREFIX)

Sign = Callable[[str, Properties, bytes], None]
Refusal = Callable[[str, Properties, bytes], str | None]

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_compare: Final = hmac.compare_digest


class Signing:
    """Signs with the first of `keys`, and accepts what was signed with any of them.

    Args:
        keys: at least one, as the settings have them; see `crew.settings.load`.
        now: epoch seconds, by the broker's clock.

    Attributes:
        sign: a function of the routing key, the properties and the body of a message that is to be published: puts the
            signature into the properties, in place of an earlier one.
    """

    def __init__(self, keys: Sequence[str], now: Callable[[], float]) -> None:
        self._macs = tuple(map(_begun, keys))
        self._now = now
        self.sign: Sign = _sign_with(self._macs[0], now)

    def __repr__(self) -> str:
        return f"<Signing with {len(self._macs)} keys>"

    def check(self, queue: str) -> Refusal:
        """What says of each message of `queue` why it has to be refused.

        Returns:
            A function of the routing key, the properties and the body of a message. It returns None for a message that
            is signed for this queue, else one sentence.
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
                    return f"a message of type {type!r:.40} has no business here"
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
                        return f"its signature is not of now, but {abs(age):.0f} s {'old' if age > 0 else 'ahead'}"
            except Exception:  # anybody may have sent it: a header of any type, a number of any size
                return "its signature cannot be read"
            return None

        return refusal

    def _is_signed(self, signature: str, address: str, properties: Properties, content: "Content") -> bool:
        """Whether another key has made it, or any key has and the broker has added headers since."""
        headers, mac, at = properties.headers, signature[_MAC_AT:_MAC_END], signature[_MAC_END:]
        may_be = [headers]
        if headers:
            sent = {name: value for name, value in headers.items() if name[:2] != "x-" and name not in OF_BROKER}
            may_be = [headers, sent] if sent else [headers, {}, None]
        return any(
            _compare(_mac(begin, address, at, properties, of, content), mac) for begin in self._macs for of in may_be
        )


Content = bytes | tuple[int, bytes]  # a body, or what stands for it
_Begin = Callable[[], "hashlib.blake2b"]  # gives a code that has its key


def _begun(key: str) -> _Begin:
    """The code of no message, to be copied. Its key is a digest of `key`, as RFC 7693 has room for 64 bytes."""
    return hashlib.blake2b(key=hashlib.blake2b(key.encode()).digest(), digest_size=_MAC_SIZE).copy


def _digest(body: bytes) -> Content:
    return len(body), hashlib.sha256(body).digest()


def _mac(
    begin: _Begin, address: str, at: str, properties: Properties, headers: Headers | None, content: Content
) -> str:
    """The code of a message, in hexadecimal.

    Args:
        at: time of signing, as it stands in the signature.
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
    """What a call is for that is published with this routing key."""
    if routing_key.startswith(_TASK_QUEUES):
        return topology.task_queue_name(topology.task_of_queue(routing_key))
    return routing_key


def _addresses(queue: str) -> tuple[str | None, str, Callable[[Properties], str]]:
    """What a message in `queue` is for.

    Returns:
        The type of most messages there; their address, or "" where it is the routing key; and what gives the address of
        a message of another type, or "" for one that has no business there.
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
    return "call", queue, lambda properties: queue  # what is parked may be of any type


def _no_address(properties: Properties) -> str:
    return ""


def _address_in_jobs(queue: str, properties: Properties) -> str:
    return topology.REVOCATION_REQUEST if properties.type == "briefing" else _address_of_return(queue, properties)


def _address_of_return(client: str, properties: Properties) -> str:
    """The address of a call of `client` that the broker has given back; "" where it is none."""
    headers = properties.headers or {}
    is_return = properties.type == "call" and "x-first-death-reason" in headers
    if not is_return or headers.get(topology.CLIENT_HEADER) != client:
        return ""
    return topology.task_queue_name(headers[TASK])
