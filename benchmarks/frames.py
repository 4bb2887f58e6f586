"""Measures the CPU time to encode and decode the frames of a call, with pika and with crew: a table.

    python benchmarks/frames.py

No broker is needed. The smallest of seven rounds counts.
"""

import timeit
from collections.abc import Callable
from typing import Any

from pika import frame, spec
from pika.channel import ContentFrameAssembler

from crew.amqp.connection import frames
from crew.protocol.properties import Properties

ROUNDS, REPEATS = 7, 5_000
LARGEST = 131_064  # bytes of a body frame, as agreed with a broker of default settings
BODY = b'{"width": 640, "height": 480}'
QUEUE = "crew.tasks.resize"
PROPERTIES: dict[str, Any] = {
    "content_type": "application/json",
    "headers": {"crew-client": "c" * 30, "crew-deadline": 1_800_000_000_000},
    "delivery_mode": 2,
    "priority": 1,
    "correlation_id": "a" * 22,
    "reply_to": "crew.reply." + "b" * 30,
    "expiration": "60000",
    "type": "call",
    "app_id": "crew",
}
DELIVERY = b"".join(
    one.marshal()
    for one in (
        frame.Method(1, spec.Basic.Deliver("tag", 1, False, "", QUEUE)),
        frame.Header(1, len(BODY), spec.BasicProperties(**PROPERTIES)),
        frame.Body(1, BODY),
    )
)
ACK = frame.Method(1, spec.Basic.Ack(7, False)).marshal()


def publish_with_pika() -> None:
    """As pika's Channel.basic_publish encodes a message."""
    publish = spec.Basic.Publish(exchange="", routing_key=QUEUE, mandatory=True)
    header = frame.Header(1, len(BODY), spec.BasicProperties(**PROPERTIES))
    for one in (frame.Method(1, publish), header, frame.Body(1, BODY)):
        one.marshal()


def publish_with_crew() -> None:
    """As CodecChannel.basic_publish encodes a message."""
    frames.publish(1, "", QUEUE, Properties(**PROPERTIES), BODY, mandatory=True, largest=LARGEST)


def deliver_with_pika() -> None:
    """As pika's connection and channel decode a delivery."""
    buffer, message = DELIVERY, ContentFrameAssembler()
    while buffer:
        consumed, one = frame.decode_frame(buffer)
        buffer = buffer[consumed:]
        message.process(one)


def deliver_with_crew() -> None:
    """As BrokerConnection decodes a delivery."""
    frames.delivered_at(DELIVERY, 0)


def ack_with_pika() -> None:
    """Encode an acknowledgement, and decode a confirm."""
    frame.Method(1, spec.Basic.Ack(7, False)).marshal()
    frame.decode_frame(ACK)


def ack_with_crew() -> None:
    """Encode an acknowledgement, and decode a confirm."""
    frames.ack(1, 7, multiple=False)
    frames.acked_at(ACK, 0)


ROWS: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "publish a call": (publish_with_pika, publish_with_crew),
    "receive a delivery": (deliver_with_pika, deliver_with_crew),
    "acknowledge, and receive a confirm": (ack_with_pika, ack_with_crew),
}


def main() -> None:
    """Print the table."""
    print("| step | pika, µs | crew, µs | ratio |\n| --- | --- | --- | --- |")
    for name, ways in ROWS.items():
        of_pika, of_crew = (min(timeit.repeat(way, number=REPEATS, repeat=ROUNDS)) / REPEATS * 1e6 for way in ways)
        print(f"| {name} | {of_pika:.1f} | {of_crew:.1f} | {of_pika / of_crew:.1f} |")


if __name__ == "__main__":
    main()
