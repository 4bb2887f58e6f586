"""Which connections are accepted, and how many."""

import logging
import resource
import socket

import pytest

from crew.gateway.serving.listener import Listener

OURS = 8  # files that a process of tests has at least


def listening(monkeypatch: pytest.MonkeyPatch, limit: int) -> Listener:
    """In a process that may have so many files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    return Listener(socket.create_server(("127.0.0.1", 0)))


@pytest.mark.gen_test
async def test_a_connection_is_accepted_where_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(monkeypatch, resource.RLIM_INFINITY) as listener, socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.gen_test
async def test_at_the_limit_none_is_accepted_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(monkeypatch, OURS) as listener, socket.create_connection(listener.getsockname()):
        for _ in range(2):
            with caplog.at_level(logging.WARNING), pytest.raises(BlockingIOError):
                listener.accept()
        assert caplog.text.count("new connections wait") == 1


@pytest.mark.gen_test
async def test_a_client_that_has_vanished_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(monkeypatch, resource.RLIM_INFINITY) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            silence, every, probes = (
                connection.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
    assert silence + every * probes == 120
