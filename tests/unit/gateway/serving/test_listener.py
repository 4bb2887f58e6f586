"""The listening socket: how many connections it accepts."""

import logging
import resource
import socket

import pytest

from crew.gateway.serving.listener import Listener, raise_open_files_limit

OURS = 8  # files that the test process has open at least
FEW = 512


def listening(monkeypatch: pytest.MonkeyPatch, limit: int) -> Listener:
    """A listener in a process that may open `limit` files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    return Listener(socket.create_server(("127.0.0.1", 0)))


@pytest.mark.gen_test
async def test_a_connection_is_accepted_without_a_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(monkeypatch, resource.RLIM_INFINITY) as listener, socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.gen_test
async def test_at_the_limit_of_open_files_no_connection_is_accepted_and_one_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(monkeypatch, OURS) as listener, socket.create_connection(listener.getsockname()):
        for _ in range(2):
            with caplog.at_level(logging.WARNING), pytest.raises(BlockingIOError):
                listener.accept()
        assert caplog.text.count("new connections wait") == 1


@pytest.mark.gen_test
async def test_tcp_keepalive_finds_a_vanished_client_after_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(monkeypatch, resource.RLIM_INFINITY) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, interval, probes = (
                connection.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
    assert idle + interval * probes == 120


def test_the_limit_of_open_files_is_raised_to_the_maximum_of_the_system() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    try:
        assert raise_open_files_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
