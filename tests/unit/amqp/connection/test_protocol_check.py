"""What answers at a port, and is no broker for us, is told apart by its first bytes."""

import pytest
from pika import frame, spec

from crew.amqp.connection import protocol_check
from crew.amqp.errors import LinkFault


def test_a_broker_is_welcome() -> None:
    start = spec.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")
    protocol_check.check(frame.Method(0, start).marshal())


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: write amqps://"),
        (b"HTTP/1.1 400 Bad Request\r\n", "speaks HTTP: name the broker's AMQP port"),
        (b"AMQP\x01\x01\x00\x08", "speaks AMQP 1-0-8, and we speak 0-9-1"),
        (b"AMQP\x00\x01\x00\x00", "speaks AMQP 1-0-0, and we speak 0-9-1"),
        (b"AM", "speaks AMQP of another version"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak AMQP: name the broker's AMQP port"),
        (b"\x00", "does not speak AMQP"),
    ],
)
def test_a_stranger_is_told_apart_by_its_first_bytes(data: bytes, told: str) -> None:
    with pytest.raises(LinkFault, match=told):
        protocol_check.check(data)
