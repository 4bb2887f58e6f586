"""Incomplete frames are kept until enough bytes have arrived."""

from crew.amqp.connection.incoming import Incoming


def test_bytes_are_passed_on_at_once_where_nothing_is_kept() -> None:
    assert Incoming().add(b"whole") == b"whole"


def test_kept_bytes_are_passed_on_together_when_enough_have_arrived() -> None:
    incoming = Incoming()
    incoming.keep(b"ab", missing=3)
    assert incoming.add(b"cd") == b""
    assert len(incoming) == 4
    assert incoming.add(b"ef") == b"abcdef"


def test_a_rest_without_a_known_size_is_passed_on_with_the_next_bytes() -> None:
    incoming = Incoming()
    incoming.keep(b"ab", missing=0)
    assert incoming.add(b"c") == b"abc"
    incoming.keep(b"", missing=0)
    assert len(incoming) == 0
