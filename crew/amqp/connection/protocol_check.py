"""The first bytes that a peer sends: whether it is a broker at all, and one that we can talk to."""

from typing import Final

from crew.amqp.errors import LinkFault

_METHOD: Final = 1  # type of the frame with which a broker begins, AMQP 0-9-1 §4.2.3
_ALERT: Final = 21  # type of the TLS record with which a TLS port answers what is no TLS, RFC 8446 §5.1
_HTTP: Final = b"HTTP/"
_AMQP: Final = b"AMQP"


def check(data: bytes) -> None:
    """Look at the first bytes; raises LinkFault where it is no broker that speaks AMQP 0-9-1."""
    if data[0] == _METHOD:
        return
    if data[0] == _ALERT:
        raise LinkFault("the port speaks TLS: write amqps:// in place of amqp://, or name the port without TLS (5672)")
    if _HTTP.startswith(data[:5]):
        raise LinkFault("the port speaks HTTP: name the broker's AMQP port (5672, or 5671 with TLS)")
    if _AMQP.startswith(data[:4]):
        raise LinkFault(f"the broker speaks AMQP {_version(data)}, and we speak 0-9-1")
    raise LinkFault("what answers there does not speak AMQP: name the broker's AMQP port (5672, or 5671 with TLS)")


def _version(data: bytes) -> str:
    """Of a protocol header: "AMQP", protocol, major, minor, revision (AMQP 0-9-1 §4.2.2)."""
    return "-".join(map(str, data[5:8])) or "of another version"
