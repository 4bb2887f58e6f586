"""Signatures of messages: who has no key can neither forge a message nor change one.

With `CREW_SIGNING_KEY`, the property `app_id` of each message holds an HMAC-SHA256 (RFC 2104) over all of the message
that changes what its receiver does:

    address, time of signing, type, correlation_id, message_id, reply_to, priority, delivery_mode,
    content_type, content_encoding, headers, body

encoded as one MessagePack array, whose elements carry their type and length, with the names of headers in order. So no
two messages have the same encoding. A body above `DIGESTED_ABOVE` bytes stands there as its length and SHA-256.

The address says what the message is for: the task of a call, the queue of a reply or report, the routing key of an
event, a control message or a briefing. A receiver derives it from the queue that it consumes, so that a message which
was signed for one place is refused in another.

Not signed is what a broker may change on the way: `expiration`, `timestamp`, and headers that it has added. So a
signature stays valid when a message is delivered again, expires into a dead-letter exchange, waits in a retry queue, or
is moved to another queue by `crew queues migrate`.

Calls end by their deadline, and replies by the call that they answer. Events, control messages and briefings have no
such end, so that they are refused when they were signed more than `FRESH_FOR` seconds ago, by the broker's clock.

The property is `app_id` and no header, as a header costs both ends a microsecond for each message.
"""

import functools
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from crew.protocol import topology
from crew.protocol.message import Headers
from crew.protocol.properties import APP_ID, TASK, Properties

SIGNED: Final = f"{APP_ID} 1."  # then the HMAC in hexadecimal, a dot, and epoch seconds
FRESH_FOR: Final = 300.0  # seconds: as long as a disconnect that loses no message; clocks may differ by a few more
DIGESTED_ABOVE: Final = 512  # bytes of a body
OF_BROKER: Final = ("CC", "BCC", "timestamp_in_ms")  # headers that RabbitMQ adds where it is told to; and all of "x-"

_MAC_AT: Final = len(SIGNED)
_MAC_END: Final = _MAC_AT + 2 * hashlib.sha256().digest_size
_BLOCK: Final = 64  # bytes of a block of SHA-256
_EXPIRE: Final = frozenset({"event", "control", "briefing"})  # types of message that FRESH_FOR is for
_TASK_QUEUES: Final = (topology.TASK_PREFIX, topology.AGAIN_PREFIX, topology.HOLDING_PREFIX)

Sign = Callable[[str, Properties, bytes], None]
Refusal = Callable[[str, Properties, bytes], str | None]

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_compare: Final = hmac.compare_digest
_sha256: Final = hashlib.sha256


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
        self._hashes = tuple(map(_begun_hashes, keys))
        self._now = now
        self.sign: Sign = _sign_with(self._hashes[0], now)

    def __repr__(self) -> str:
        return f"<Signing with {len(self._hashes)} keys>"

    def check(self, queue: str) -> Refusal:
        """What says of each message of `queue` why it has to be refused.

        Returns:
            A function of the routing key, the properties and the body of a message. It returns None for a message that
            is signed for this queue, else one sentence.
        """
        usual_type, usual_address, other_address = _addresses(queue)
        hashes = self._hashes[0]

        def refusal(routing_key: str, properties: Properties, body: bytes) -> str | None:
            signature, type = properties.app_id, properties.type
            if signature is None or signature[:_MAC_AT] != SIGNED:
                return "it has no signature"
            try:
                if type == usual_type:
                    address = usual_address or routing_key
                elif (address := other_address(properties)) == "":
                    return f"a message of type {type!r:.40} has no business here"
                form = _form(address, signature[_MAC_END:], properties, properties.headers, body)
                is_usual = _compare(_mac(hashes, form), signature[_MAC_AT:_MAC_END])
                if not (is_usual or self._is_signed(signature, address, properties, body)):
                    return "its signature is wrong"
                if type in _EXPIRE:
                    age = self._now() - int(signature[_MAC_END + 1 :])
                    if abs(age) > FRESH_FOR:
                        return f"its signature is not of now, but {abs(age):.0f} s {'old' if age > 0 else 'ahead'}"
            except Exception:  # anybody may have sent it: a header of any type, a number of any size
                return "its signature cannot be read"
            return None

        return refusal

    def _is_signed(self, signature: str, address: str, properties: Properties, body: bytes) -> bool:
        """Whether another key has made it, or any key has and the broker has added headers since."""
        headers, mac = properties.headers, signature[_MAC_AT:_MAC_END]
        may_be = [headers]
        if headers:
            sent = {name: value for name, value in headers.items() if name[:2] != "x-" and name not in OF_BROKER}
            may_be = [headers, sent] if sent else [headers, {}, None]
        forms = [_form(address, signature[_MAC_END:], properties, of, body) for of in may_be]
        return any(_compare(_mac(hashes, form), mac) for hashes in self._hashes for form in forms)


def _form(address: str, at: str, properties: Properties, headers: Headers | None, body: bytes) -> bytes:
    """What is signed."""
    return _encode(
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
            body if len(body) <= DIGESTED_ABOVE else (len(body), _sha256(body).digest()),
        )
    )


_Begun = Callable[[], Any]  # gives a hash that has read its key


def _begun_hashes(key: str) -> tuple[_Begun, _Begun]:
    """The inner and the outer hash of HMAC-SHA256 with `key`.

    They are begun once a key (RFC 2104 §4): what is left takes half the time of `hmac.digest` a message.
    """
    raw = key.encode()
    block = (raw if len(raw) <= _BLOCK else _sha256(raw).digest()).ljust(_BLOCK, b"\0")
    return _sha256(bytes(byte ^ 0x36 for byte in block)).copy, _sha256(bytes(byte ^ 0x5C for byte in block)).copy


def _mac(hashes: tuple[_Begun, _Begun], form: bytes) -> str:
    """The HMAC of `form`, in hexadecimal."""
    inner, outer = hashes[0](), hashes[1]()
    inner.update(form)
    outer.update(inner.digest())
    hexadecimal: str = outer.hexdigest()
    return hexadecimal


def _sign_with(hashes: tuple[_Begun, _Begun], now: Callable[[], float]) -> Sign:
    second, at = 0, ".0"  # the text of the second that it is

    def sign(routing_key: str, properties: Properties, body: bytes) -> None:
        nonlocal second, at
        if not second <= (time := now()) < second + 1:
            second = int(time)
            at = f".{second}"
        form = _form(_address(properties.type, routing_key), at, properties, properties.headers, body)
        properties.app_id = SIGNED + _mac(hashes, form) + at

    return sign


# --- addresses ------------------------------------------------------------------------------------------------------


@functools.lru_cache(1024)  # a client calls the same tasks, a worker answers the same clients, again and again
def _address(type: str | None, routing_key: str) -> str:
    """What a message is for that is published with this routing key."""
    if type == "call" and routing_key.startswith(_TASK_QUEUES):
        return topology.task_queue_name(topology.task_of_queue(routing_key))
    return routing_key


def _addresses(queue: str) -> tuple[str | None, str, Callable[[Properties], str]]:
    """What a message in `queue` is for.

    Returns:
        The type of most messages there; their address, or "" where it is the routing key; and what gives the address of
        a message of another type, or "" for one that has no business there.
    """
    if queue.startswith(_TASK_QUEUES):
        return "call", _address("call", queue), _no_address
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
    return topology.BRIEFING if properties.type == "briefing" else _address_of_return(queue, properties)


def _address_of_return(client: str, properties: Properties) -> str:
    """The address of a call of `client` that the broker has given back; "" where it is none."""
    headers = properties.headers or {}
    is_return = properties.type == "call" and "x-first-death-reason" in headers
    if not is_return or headers.get(topology.CLIENT_HEADER) != client:
        return ""
    return topology.task_queue_name(headers[TASK])
