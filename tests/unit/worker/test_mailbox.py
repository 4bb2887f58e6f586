"""The mailbox of the I/O thread."""

import asyncio
import contextvars
import threading
import time

import pytest

from crew.worker.mailbox import Mailbox
from tests.support.waiting import until


class Loop(asyncio.SelectorEventLoop):
    """Counts the wake-ups from other threads."""

    wake_ups = 0

    def _write_to_self(self) -> None:
        self.wake_ups += 1


@pytest.mark.gen_test
async def test_posts_of_another_thread_run_on_the_loop_in_order() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    arrived: list[tuple[int, int]] = []

    def write() -> None:
        for number in range(1_000):
            mailbox.post(lambda one: arrived.append((one, threading.get_ident())), number)

    threading.Thread(target=write).start()
    await until(lambda: len(arrived) == 1_000)
    assert arrived == [(number, threading.get_ident()) for number in range(1_000)]


@pytest.mark.gen_test
async def test_a_failing_post_does_not_keep_others_from_running(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    arrived: list[int] = []

    def boom() -> None:
        raise ValueError("a bug")

    mailbox.post(boom)
    mailbox.post(arrived.append, 1)
    await until(lambda: arrived == [1])
    assert "a bug" in caplog.text
    mailbox.post(arrived.append, 2)
    await until(lambda: arrived == [1, 2])


def test_many_posts_cost_one_wake_up() -> None:
    loop = Loop()
    try:
        mailbox = Mailbox(loop)
        arrived: list[int] = []
        for number in range(100):
            mailbox.post(arrived.append, number)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert (len(arrived), loop.wake_ups) == (100, 1)
    finally:
        loop.close()


@pytest.mark.gen_test
async def test_a_post_made_while_others_run_is_run_too() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    arrived: list[str] = []

    def first() -> None:
        arrived.append("first")
        mailbox.post(arrived.append, "second")

    mailbox.post(first)
    await until(lambda: arrived == ["first", "second"])


@pytest.mark.gen_test
async def test_post_and_wait_returns_when_the_messages_are_sent() -> None:
    loop = asyncio.get_running_loop()
    mailbox = Mailbox(loop)
    steps: list[str] = []

    def send() -> None:
        steps.append("asked")
        loop.call_soon(steps.append, "sent")

    def ask() -> None:
        mailbox.post_and_wait(send, timeout=5)
        steps.append("goes on")

    await asyncio.to_thread(ask)
    assert steps == ["asked", "sent", "goes on"]


@pytest.mark.gen_test
async def test_post_and_wait_returns_if_the_function_fails(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = Mailbox(asyncio.get_running_loop())

    def boom() -> None:
        raise ValueError("a bug")

    begin = time.monotonic()
    await asyncio.to_thread(mailbox.post_and_wait, boom, timeout=5)
    assert time.monotonic() - begin < 4
    assert "a bug" in caplog.text


def test_post_and_wait_on_a_blocked_loop_returns_at_its_timeout() -> None:
    loop = Loop()
    try:
        asked: list[str] = []
        begin = time.monotonic()
        Mailbox(loop).post_and_wait(asked.append, "asked", timeout=0.05)
        assert 0.05 <= time.monotonic() - begin < 2
        assert asked == []
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert asked == ["asked"], "it runs when the loop is free again"
    finally:
        loop.close()


@pytest.mark.gen_test
async def test_a_post_does_not_run_in_the_context_of_its_sender() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("the mailbox's")
    mailbox = Mailbox(asyncio.get_running_loop())
    seen: list[str] = []
    variable.set("a task's")
    mailbox.post(lambda: seen.append(variable.get()))
    await until(lambda: seen)
    assert seen == ["the mailbox's"]
