"""Annotations that are text, as `from __future__ import annotations` makes them."""

from __future__ import annotations

import dataclasses
import datetime

from crew.signatures.signature import signature_of


@dataclasses.dataclass
class Booking:
    day: datetime.date
    guests: list[Guest]


@dataclasses.dataclass
class Guest:
    name: str


def book(booking: Booking, *, notes: list[str] | None = None) -> Booking:
    return booking


def test_postponed_annotations_are_resolved() -> None:
    signature = signature_of("book", book)
    booking = Booking(datetime.date(2026, 1, 2), [Guest("a")])
    sent = signature.arguments([booking], {"notes": ["x"]})
    args, kwargs = signature.bind_payload(sent)
    assert [*args] == [booking]
    assert kwargs == {"notes": ["x"]}
    assert signature.read_result(signature.encode_result(booking)) == booking
