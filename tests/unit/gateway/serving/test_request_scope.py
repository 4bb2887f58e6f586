"""Cancellation of calls when the HTTP client disconnects."""

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Awaitable, Generator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tornado import gen
from tornado.web import RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler, websocket_connect

from crew.client import PendingCall, Scope
from crew.errors import Canceled
from crew.gateway import AbandonMixin, cancel_when_abandoned
from tests.support.site import Abandoned, Handler, logged, site
from tests.support.waiting import until

DISCONNECTED = "the HTTP client disconnected"


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


# --- styles of handlers ---------------------------------------------------------------------------------------------


class Coroutine(Abandoned):
    async def get(self) -> None:
        self.write(await self.crew.call("t"))


class GenCoroutine(Abandoned):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        value = yield self.crew.call("t")
        self.write(value)


class YieldsTwo(Abandoned):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        values = yield [self.crew.call("t"), self.crew.call("t")]
        self.write(values[0])


class Callback(Abandoned):
    def get(self) -> "asyncio.Future[None]":
        self.answered: asyncio.Future[None] = asyncio.Future()
        self.crew.call("t", callback=self.on_reply)
        return self.answered

    def on_reply(self, value: Any, headers: Any) -> None:
        self.write(str(value))
        self.answered.set_result(None)


class ChainOfCallbacks(Callback):
    """Makes a second call, regardless of the first reply."""

    def on_reply(self, value: Any, headers: Any) -> None:
        self.answered.set_result(None)
        self.crew.call("t", callback=super().on_reply)


class Gather(Abandoned):
    async def get(self) -> None:
        values = await asyncio.gather(self.crew.call("t"), self.crew.call("t"))
        self.write(values[0])


class Group(Abandoned):
    async def get(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self.wait())

    async def wait(self) -> None:
        self.write(await self.crew.call("t"))


class Parallel(Abandoned):
    async def get(self) -> None:
        with self.crew.parallel() as calls:
            calls.call("t")
            calls.call("t")
        self.write({"values": await calls.result()})


class Streams(Abandoned):
    """Has sent a part of its response when the browser disconnects."""

    async def get(self) -> None:
        self.write("so far")
        await self.flush()
        self.write(await self.crew.call("t"))


class Announces(Abandoned):
    """Announces more bytes than it sends."""

    async def get(self) -> None:
        self.set_header("Content-Length", "1000")
        await self.flush()
        self.write(await self.crew.call("t"))


STYLES = [
    (Coroutine, 1, 499),
    (GenCoroutine, 1, 499),
    (YieldsTwo, 2, 499),
    (Callback, 1, 200),
    (ChainOfCallbacks, 1, 200),
    (Gather, 2, 499),
    (Group, 2, 499),
    (Parallel, 2, 499),
    (Streams, 1, 200),
    (Announces, 1, 200),
]


@pytest.mark.gen_test
@pytest.mark.parametrize(("handler", "count", "status"), STYLES, ids=lambda it: getattr(it, "__name__", None))
async def test_a_disconnecting_browser_cancels_its_calls_and_one_info_line_is_logged(
    handler: type[RequestHandler], count: int, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(("/", handler)) as web:
        browser = await web.open_browser()
        calls = await web.wait_for_calls(count)
        await browser.disconnect()
        await until(lambda: all(call.done() for call in calls) and logged(caplog))
        assert web.calls == []
    gc.collect()
    ((level, line),) = logged(caplog)
    assert level == "INFO"
    assert line.startswith(f"{status} GET / (127.0.0.1)")


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [style for style, _, _ in STYLES[:4]])
async def test_a_connected_browser_is_answered(handler: type[RequestHandler]) -> None:
    async with site(("/", handler)) as web:
        browser = await web.open_browser()
        for _ in range(2):  # over one connection
            await until(lambda: web.calls)
            web.reply_to_all("value")
            assert await browser.response() == (200, "value")
            browser.request("/")
        await web.wait_for_calls(2 if handler is YieldsTwo else 1)
        await browser.disconnect()
        await until(lambda: not web.calls)


# --- other behaviour of handlers ------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_call_shared_by_several_requests_is_canceled_with_the_last_of_them() -> None:
    shared: list[PendingCall[Any]] = []

    class Shares(Abandoned):
        async def get(self) -> None:
            if not shared:
                shared.append(self.crew.call("t"))
            self.write(await shared[0])

    async with site(("/", Shares)) as web:
        first = await web.open_browser()
        await web.wait_for_calls(1)
        second = await web.open_browser()
        third = await web.open_browser()
        await until(lambda: len(shared[0]._waiters) == 3)

        await first.disconnect()
        await until(lambda: len(shared[0]._waiters) == 2)
        assert not shared[0].done()

        web.reply_to_all("value")
        assert await second.response() == await third.response() == (200, "value")

        shared.clear()
        for browser in (second, third):
            browser.request("/")
        await until(lambda: shared and len(shared[0]._waiters) == 2)
        await second.disconnect()
        await third.disconnect()
        await until(lambda: not web.calls)


@pytest.mark.gen_test
async def test_hooks_of_the_handler_are_still_called() -> None:
    happened: list[str] = []

    class Own(Abandoned):
        async def prepare(self) -> None:
            await asyncio.sleep(0)
            happened.append("prepare")
            super().prepare()

        async def get(self) -> None:
            await self.crew.call("t")

        def on_connection_close(self) -> None:
            super().on_connection_close()
            happened.append("close")

        def on_finish(self) -> None:
            super().on_finish()
            happened.append("finish")

    async with site(("/", Own)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        await browser.disconnect()
        await until(lambda: len(happened) == 3)
    assert happened == ["prepare", "close", "finish"]


@pytest.mark.gen_test
async def test_hooks_of_a_base_class_are_called_too() -> None:
    happened: list[str] = []

    class Base(Handler):
        def prepare(self) -> Awaitable[None] | None:
            async def later() -> None:
                happened.append("prepare")

            return later()

        def on_connection_close(self) -> None:
            happened.append("close")
            self.crew.call("clean up")  # clean-up after the disconnect

        def on_finish(self) -> None:
            happened.append("finish")

    class Mixed(AbandonMixin, Base):
        async def get(self) -> None:
            await self.crew.call("t")

    async with site(("/", Mixed)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        await browser.disconnect()
        await until(lambda: len(happened) == 3)
        assert happened == ["prepare", "close", "finish"]
        assert [call.task for call in web.calls] == ["clean up"]


@pytest.mark.gen_test
async def test_after_a_disconnect_a_handler_can_make_calls_only_in_its_own_scope() -> None:
    errors: list[Canceled] = []

    class GoesOn(Abandoned):
        async def get(self) -> None:
            for task in ("first", "second"):
                try:
                    await self.crew.call(task)
                except Canceled as error:
                    errors.append(error)
            with Scope():
                self.crew.call("clean up")

    async with site(("/", GoesOn)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        await browser.disconnect()
        await until(lambda: [call.task for call in web.calls] == ["clean up"])
    assert [DISCONNECTED in str(error) for error in errors] == [True, True]
    assert "client.Scope" in str(errors[1])


@pytest.mark.gen_test
async def test_a_disconnect_between_two_calls_prevents_the_second(caplog: pytest.LogCaptureFixture) -> None:
    handlers: list[RequestHandler] = []
    go_on = asyncio.Event()

    class Pauses(Abandoned):
        async def get(self) -> None:
            handlers.append(self)
            await go_on.wait()
            self.write(await self.crew.call("t"))

    async with site(("/", Pauses)) as web:
        browser = await web.open_browser()
        await until(lambda: handlers)
        await browser.disconnect()
        await until(lambda: handlers[0].request.connection.stream.closed())  # type: ignore[union-attr]
        go_on.set()
        await until(lambda: logged(caplog))
        assert web.calls == []
    assert [level for level, _ in logged(caplog)] == ["INFO"]


@pytest.mark.gen_test
async def test_calls_without_a_waiting_handler_go_on_after_the_response() -> None:
    class Forgets(Abandoned):
        async def get(self) -> None:
            self.crew.call("t")
            self.write("accepted")

    async with site(("/", Forgets)) as web:
        browser = await web.open_browser()
        assert await browser.response() == (200, "accepted")
        await browser.disconnect()
        (call,) = await web.wait_for_calls(1)
        await asyncio.sleep(0.05)  # the call must not be canceled meanwhile
        assert not call.done()


@pytest.mark.gen_test
async def test_a_request_answered_before_its_body_has_arrived_is_not_abandoned() -> None:
    closed: list[RequestHandler] = []

    @stream_request_body
    class Hasty(Abandoned):
        def prepare(self) -> None:
            super().prepare()
            self.crew.call("t")
            self.finish("accepted")

        def data_received(self, chunk: bytes) -> None:
            """Discard it: the response was sent."""

        def on_connection_close(self) -> None:
            super().on_connection_close()
            closed.append(self)

    async with site(("/", Hasty)) as web:
        browser = await web.open_browser("/elsewhere")
        assert (await browser.response())[0] == 404
        browser.request_in_part()
        assert await browser.response() == (200, "accepted")
        (call,) = web.calls
        await browser.disconnect()
        await until(lambda: closed)
        assert not call.done()


@pytest.mark.gen_test
async def test_a_custom_log_exception_is_not_called_for_an_abandoned_request() -> None:
    reported: list[BaseException | None] = []
    finished = asyncio.Event()

    class Reports(Handler):
        def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
            reported.append(value)

        def on_finish(self) -> None:
            finished.set()

    class Mixed(AbandonMixin, Reports):
        async def get(self) -> None:
            await self.crew.call("t")

    async with site(("/", Mixed)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        await browser.disconnect()
        await asyncio.wait_for(finished.wait(), 5)
    assert reported == []


@pytest.mark.gen_test
async def test_another_exception_of_an_abandoned_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Mistaken(Abandoned):
        async def get(self) -> None:
            try:
                await self.crew.call("t")
            finally:
                raise KeyError("a bug")

    async with site(("/", Mistaken)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        await browser.disconnect()
        await until(lambda: len(logged(caplog)) == 2)
    assert logged(caplog)[0][0] == "ERROR"
    assert "KeyError: 'a bug'" in caplog.text


@pytest.mark.gen_test
async def test_a_call_canceled_while_the_browser_waits_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(("/", Coroutine)) as web:
        browser = await web.open_browser()
        (call,) = await web.wait_for_calls(1)
        call.cancel()
        assert (await browser.response())[0] == 500
    assert [level for level, _ in logged(caplog)] == ["ERROR", "ERROR"]


@pytest.mark.gen_test
async def test_a_custom_log_function_sees_the_status_499(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    async with site(("/", Coroutine), log_function=lambda handler: seen.append(handler.get_status())) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        await browser.disconnect()
        await until(lambda: seen)
    assert seen == [499]
    assert logged(caplog) == []


@pytest.mark.gen_test
async def test_an_abandoned_handler_is_freed() -> None:
    handlers: list[weakref.ref[RequestHandler]] = []

    class Counted(Coroutine):
        async def get(self) -> None:
            handlers.append(weakref.ref(self))
            await super().get()

    def are_gone() -> bool:
        gc.collect()
        return not any(handler() for handler in handlers)

    async with site(("/", Counted)) as web:
        browsers = [await web.open_browser() for _ in range(5)]
        await web.wait_for_calls(5)
        for browser in browsers:
            await browser.disconnect()
        await until(lambda: not web.calls)
        await until(are_gone)
    assert len(handlers) == 5


# --- WebSockets -----------------------------------------------------------------------------------------------------


class Socket(AbandonMixin, WebSocketHandler):
    """Makes a call for each message."""

    async def on_message(self, message: str | bytes) -> None:
        value = await self.settings["crew"].call("t")
        await self.write_message(value)


@pytest.mark.gen_test
async def test_a_websocket_is_answered_while_it_is_open() -> None:
    async with site(("/", Socket)) as web:
        socket = await websocket_connect(f"ws://127.0.0.1:{web.port}/")
        for number in range(2):
            await socket.write_message("?")
            await web.wait_for_calls(1)
            web.reply_to_all(f"value {number}")
            assert await socket.read_message() == f"value {number}"
        socket.close()


@pytest.mark.gen_test
async def test_a_vanished_websocket_cancels_the_calls_that_its_message_handler_awaits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(("/", Socket)) as web:
        socket = await websocket_connect(f"ws://127.0.0.1:{web.port}/")
        await socket.write_message("?")
        await web.wait_for_calls(1)
        assert socket.protocol is not None
        assert socket.protocol.stream is not None
        socket.protocol.stream.close()
        socket.close()  # of this side only: the stream is closed
        await until(lambda: not web.calls)
    gc.collect()
    assert [level for level, _ in logged(caplog)] == ["INFO"]  # of the handshake


@pytest.mark.gen_test
async def test_a_closed_websocket_cancels_its_calls_with_callbacks() -> None:
    closed: list[Any] = []

    class Starts(AbandonMixin, WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            self.settings["crew"].call("t", callback=lambda value, headers: closed.append(value))

        def on_close(self) -> None:
            self.settings["crew"].call("clean up")
            closed.append("closed")

    async with site(("/", Starts)) as web:
        socket = await websocket_connect(f"ws://127.0.0.1:{web.port}/")
        await socket.write_message("?")
        await web.wait_for_calls(1)
        socket.close()
        await until(lambda: len(closed) == 2)
        assert [call.task for call in web.calls] == ["clean up"]
    assert isinstance(closed[0], Canceled)
    assert closed[1] == "closed"


# --- without the mixin ----------------------------------------------------------------------------------------------


class PlainCoroutine(Handler):
    async def get(self) -> None:
        call = self.crew.call("t")
        cancel_when_abandoned(self, call)
        self.write(await call)


class PlainGenCoroutine(Handler):
    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        calls = [self.crew.call("t"), self.crew.call("t")]
        cancel_when_abandoned(self, *calls)
        values = yield calls
        self.write(values[0])


class PlainCallback(Handler):
    def get(self) -> "asyncio.Future[None]":
        answered: asyncio.Future[None] = asyncio.Future()
        cancel_when_abandoned(self, self.crew.call("t", callback=lambda value, headers: answered.set_exception(value)))
        return answered


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [PlainCoroutine, PlainGenCoroutine, PlainCallback])
async def test_calls_passed_to_cancel_when_abandoned_end_with_their_request(
    handler: type[RequestHandler], caplog: pytest.LogCaptureFixture
) -> None:
    async with site(("/", handler)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(2 if handler is PlainGenCoroutine else 1)
        await browser.disconnect()
        await until(lambda: logged(caplog))
        assert web.calls == []
    assert "Traceback" not in caplog.text


@pytest.mark.gen_test
async def test_other_calls_of_the_handler_go_on_and_its_own_hook_is_called_once() -> None:
    happened: list[str] = []

    class Both(Handler):
        async def get(self) -> None:
            for _ in range(2):
                cancel_when_abandoned(self, self.crew.call("named"))
            await self.crew.call("other")

        def on_connection_close(self) -> None:
            happened.append("close")

    async with site(("/", Both)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(3)
        await browser.disconnect()
        await until(lambda: [call.task for call in web.calls] == ["other"])
    assert happened == ["close"]


@pytest.mark.gen_test
async def test_a_call_passed_after_the_disconnect_is_canceled_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers: list[RequestHandler] = []
    go_on = asyncio.Event()

    class Late(Handler):
        async def get(self) -> None:
            handlers.append(self)
            await go_on.wait()
            call = self.crew.call("t")
            cancel_when_abandoned(self, call)
            await call

    async with site(("/", Late)) as web:
        browser = await web.open_browser()
        await until(lambda: handlers)
        await browser.disconnect()
        await until(lambda: handlers[0].request.connection.stream.closed())  # type: ignore[union-attr]
        go_on.set()
        await until(lambda: logged(caplog))
        assert web.calls == []


@pytest.mark.gen_test
async def test_a_call_passed_for_two_requests_is_canceled_with_the_last() -> None:
    shared: list[PendingCall[Any]] = []

    class Shares(Handler):
        async def get(self) -> None:
            if not shared:
                shared.append(self.crew.call("t"))
            cancel_when_abandoned(self, shared[0])
            self.write(await shared[0])

    async with site(("/", Shares)) as web:
        first, second = await web.open_browser(), await web.open_browser()
        await until(lambda: shared and len(shared[0]._scopes) == 2)
        await first.disconnect()
        await until(lambda: len(shared[0]._scopes) == 1)
        assert not shared[0].done()
        await second.disconnect()
        await until(lambda: not web.calls)


@pytest.mark.gen_test
async def test_a_websocket_without_the_mixin_is_a_type_error() -> None:
    errors: list[str] = []

    class Bare(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            try:
                cancel_when_abandoned(self)
            except TypeError as error:
                errors.append(str(error))

    async with site(("/", Bare)) as web:
        socket = await websocket_connect(f"ws://127.0.0.1:{web.port}/")
        await socket.write_message("?")
        await until(lambda: errors)
        socket.close()
    assert errors == ["Bare is a WebSocketHandler: give it AbandonMixin as its first base instead"]


# --- counters -------------------------------------------------------------------------------------------------------


def counted() -> dict[str, float]:
    """The current values of the counters."""
    names = {
        "requests": ("crew_abandoned_requests_total", {}),
        "queued": ("crew_abandoned_calls_total", {"state": "queued"}),
        "started": ("crew_abandoned_calls_total", {"state": "started"}),
        "seconds": ("crew_abandoned_seconds_total", {}),
    }
    return {key: REGISTRY.get_sample_value(name, labels) or 0.0 for key, (name, labels) in names.items()}


@pytest.mark.gen_test
async def test_abandoned_requests_and_calls_are_counted() -> None:
    class Three(Abandoned):
        async def get(self) -> None:
            calls = [self.crew.call("t", expiration=100), self.crew.call("t", expiration=50, timeout=5)]
            await asyncio.gather(*calls, self.settings["shared"])

    before, begun = counted(), time.time()
    async with site(("/", Three)) as web:
        shared = web.crew.call("shared")
        web.application.settings["shared"] = shared
        waits = asyncio.ensure_future(asyncio.wait_for(shared, 5))
        browser = await web.open_browser()
        _, first, _ = await web.wait_for_calls(3)
        first.has_started = True
        await browser.disconnect()
        await until(lambda: web.calls == [shared])
        took = time.time() - begun
        web.reply_to_all("value")
        assert await waits == "value"
    grown = {key: value - before[key] for key, value in counted().items()}
    assert (grown["requests"], grown["queued"], grown["started"]) == (1, 1, 1)
    assert 105 - took <= grown["seconds"] <= 105


@pytest.mark.gen_test
async def test_an_answered_request_is_not_counted() -> None:
    before = counted()
    async with site(("/", Coroutine)) as web:
        browser = await web.open_browser()
        await web.wait_for_calls(1)
        web.reply_to_all("value")
        assert await browser.response() == (200, "value")
        await browser.disconnect()
    assert counted() == before
