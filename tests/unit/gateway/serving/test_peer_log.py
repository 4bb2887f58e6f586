"""Limits for the log lines that clients without a token can cause."""

import asyncio
import logging

import pytest
from tornado.netutil import bind_sockets

from crew.gateway.serving import peer_log
from crew.gateway.serving.auth import GuardedApplication
from crew.gateway.serving.server import DrainingServer
from tests.support.waiting import until

MANY = 30  # malformed requests: more than the lines that one interval may have


@pytest.mark.gen_test
async def test_malformed_requests_fill_no_log_and_write_no_escape_sequences(caplog: pytest.LogCaptureFixture) -> None:
    server = DrainingServer(GuardedApplication([], token="0123456789abcdef"))
    (socket, *_) = sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    header = b"a\x1b[31m\x9b" + b"x" * 60_000
    with caplog.at_level(logging.INFO, "tornado.general"), peer_log.bounded():
        for _ in range(MANY):
            reader, writer = await asyncio.open_connection("127.0.0.1", socket.getsockname()[1])
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nX-A: " + header + b"\r\n\r\n")
            assert b"400 Bad Request" in await reader.read()
            writer.close()
        await until(lambda: bool(caplog.records))
    server.stop()
    lines = [record.getMessage() for record in caplog.records if record.name == "tornado.general"]
    assert 0 < len(lines) <= peer_log.LINES
    assert all(len(line) < 400 and line.isprintable() for line in lines), lines
    assert "Traceback" not in caplog.text


def test_the_next_interval_logs_how_many_lines_were_suppressed(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    logger = logging.getLogger("tornado.general")
    with caplog.at_level(logging.INFO, "tornado.general"), peer_log.bounded(lambda: now):
        for number in range(MANY):
            logger.info("bad message %d", number)
        now += peer_log.INTERVAL
        logger.info("another")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[: peer_log.LINES] == [f"bad message {number}" for number in range(peer_log.LINES)]
    assert (
        f"log lines suppressed: count={MANY - peer_log.LINES} interval={peer_log.INTERVAL:g}s line='bad message %d'"
        in lines
    )
    assert "another" in lines
