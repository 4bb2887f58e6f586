"""The client without a broker: it refuses invalid arguments, and its calls end on time."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from crew import errors
from crew.client import Client
from tests.support.broker import unreachable_url
from tests.support.links import ignored
from tests.support.waiting import until


@pytest.fixture
def unreachable() -> Iterator[str]:
    """A URL at which nothing listens."""
    with unreachable_url() as url:
        yield url


def test_a_client_may_be_created_and_subscribe_before_an_event_loop_runs(unreachable: str) -> None:
    client = Client(unreachable)
    client.subscribe("news", ignored)
    client.unsubscribe("news")


def test_the_error_for_a_call_without_a_loop_names_the_blocking_client(unreachable: str) -> None:
    with pytest.raises(RuntimeError, match=r"crew\.client\.blocking\.Client"):
        Client(unreachable).call("t")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"priority": 256}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"expiration": 0}, "expiration"),
        ({"expiration": -1}, "expiration"),
        ({"expiration": None}, "expiration"),
        ({"expiration": "soon"}, "expiration"),
        ({"expiration": float("nan")}, "expiration"),
        ({"expiration": True}, "expiration"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"serializer": "pickle"}, "serializer"),
        ({"headers": {"crew-task": "x"}}, "crew-task"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"task": ""}, "task"),
        ({"payload": {1, 2}}, "set"),
    ],
    ids=str,
)
async def test_an_argument_out_of_range_is_a_value_error_at_the_call(
    unreachable: str, options: dict[str, Any], names: str
) -> None:
    client = Client(unreachable)
    with pytest.raises(ValueError, match=names):
        client.call(**{"task": "t", **options})
    assert "0 calls in flight" in repr(client)
    await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "options", [{"expiration": 1}, {"expiration": 0.5}, {"priority": 0}, {"priority": 255}], ids=str
)
async def test_an_argument_in_range_is_accepted(unreachable: str, options: dict[str, Any]) -> None:
    client = Client(unreachable)
    call = client.call("t", **options)
    assert not call.done()
    assert call.cancel()
    await client.close()


@pytest.mark.gen_test
async def test_a_call_ends_on_time_without_a_broker(unreachable: str) -> None:
    client = Client(unreachable)
    begin = time.monotonic()
    with pytest.raises(errors.ExpirationError, match="the broker could not be reached"):
        await client.call("t", expiration=0.1)
    assert 0.1 <= time.monotonic() - begin < 0.6
    await client.close()


@pytest.mark.gen_test
async def test_a_call_over_the_limit_is_overloaded_at_once(unreachable: str) -> None:
    client = Client(unreachable, max_pending=1)
    first = client.call("t")
    with pytest.raises(errors.Overloaded):
        client.call("t")
    first.cancel()
    client.call("t").cancel()
    await client.close()


@pytest.mark.gen_test
async def test_two_calls_in_flight_cannot_share_an_id(unreachable: str) -> None:
    client = Client(unreachable)
    call = client.call("t", id="same")
    assert call.id == "same"
    with pytest.raises(errors.DuplicateCallId):
        client.call("t", id="same")
    call.cancel()
    client.call("t", id="same").cancel()
    await client.close()


@pytest.mark.gen_test
async def test_closing_the_client_ends_calls_in_flight(unreachable: str) -> None:
    client = Client(unreachable)
    call = client.call("t")
    await client.close()
    await client.close()
    with pytest.raises(errors.ConnectionError, match="closed"):
        await call
    with pytest.raises(errors.ConnectionError, match="closed"):
        client.call("t")


@pytest.mark.gen_test
async def test_connect_may_have_a_timeout(unreachable: str) -> None:
    client = Client(unreachable)
    with pytest.raises(errors.ConnectionError, match=r"within 0\.05 s"):
        await client.connect(timeout=0.05)
    await client.close()


@pytest.mark.gen_test
async def test_a_wait_for_a_connection_fails_when_the_client_is_closed(unreachable: str) -> None:
    client = Client(unreachable)
    connecting = asyncio.ensure_future(client.connect())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(errors.ConnectionError, match="closed"):
        await connecting


def test_two_clients_with_one_name_have_different_ids(unreachable: str) -> None:
    assert Client(unreachable, name="gateway").id != Client(unreachable, name="gateway").id
    assert Client(unreachable, name="gateway").id.startswith("gateway-")


@pytest.mark.parametrize("name", ["x" * 244, "ü" * 122])
def test_a_long_name_is_shortened_to_fit_the_names_of_queues(unreachable: str, name: str) -> None:
    client = Client(unreachable, name=name)
    assert len(f"crew.subscribe.{client.id}".encode()) <= 255


def test_the_repr_of_a_client_hides_the_password(unreachable: str) -> None:
    assert "secret" not in repr(Client(unreachable))


@pytest.mark.parametrize(
    "options",
    [
        {"max_pending": 0},
        {"max_pending": True},
        {"max_pending": 1.5},
        {"max_pending_bytes": 0},
        {"name": "a\nb"},
        {"name": 7},
    ],
    ids=str,
)
def test_an_invalid_argument_of_a_client_is_a_value_error(unreachable: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Client(unreachable, **options)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "nonsense", "amqp://:x", "amqp://host:port"])
def test_an_invalid_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(errors.SettingsError):
        Client(url)


def test_the_name_of_a_client_fits_the_names_of_its_queues_in_any_script() -> None:
    client = Client("amqp://localhost", name="€" * 81)
    assert client.name == "€" * 33
    assert len(f"crew.subscribe.{client.id}".encode()) <= 255


@pytest.mark.gen_test
async def test_a_callback_that_is_not_callable_is_a_value_error() -> None:
    client = Client("amqp://localhost")
    with pytest.raises(ValueError, match="callback must be a function or None, not 5"):
        client.call("t", callback=5)  # type: ignore[arg-type]
    await client.close()


# --- fail fast ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_with_fail_fast_a_call_fails_at_once_while_the_broker_is_unavailable(unreachable: str) -> None:
    client = Client(unreachable)
    with pytest.raises(errors.ConnectionError, match="task 't' is not called: the broker has not been reached yet"):
        client.call("t", fail_fast=True)
    assert "0 calls in flight" in repr(client)
    await until(lambda: "connection refused" in str(client.obstacle))
    refused = "{}: the broker is unavailable: .*: connection refused"
    with pytest.raises(errors.ConnectionError, match=refused.format("'t' is not called")):
        client.call("t", fail_fast=True)
    with pytest.raises(errors.ConnectionError, match=refused.format("'news' was not published")):
        await client.publish("news", fail_fast=True)
    await client.close()


@pytest.mark.gen_test
async def test_a_call_can_override_fail_fast_of_its_client(unreachable: str) -> None:
    client = Client(unreachable, fail_fast=True)
    with pytest.raises(errors.ConnectionError):
        client.call("t")
    with pytest.raises(errors.ConnectionError):
        await client.publish("news")
    assert not client.call("t", fail_fast=False).done()
    await client.close()


@pytest.mark.gen_test
async def test_a_client_that_is_not_ready_names_the_reason(unreachable: str) -> None:
    client = Client(unreachable)
    assert (client.is_ready, client.obstacle) == (False, "the broker has not been reached yet")
    await client.close()
    assert client.obstacle == "the client was closed"
    with pytest.raises(errors.ConnectionError, match="closed"):
        client.open()


# --- drain ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_draining_client_refuses_new_calls_and_waits_for_the_others(unreachable: str) -> None:
    client = Client(unreachable)
    call = client.call("t")
    draining = asyncio.ensure_future(client.drain(timeout=10))
    await until(lambda: client.obstacle == "the client is draining: it makes no new calls")
    with pytest.raises(errors.ConnectionError, match="draining"):
        client.call("t")
    assert not call.done()
    assert not draining.done()
    client._calls._pending.settle(call.id, "value")
    assert await call == "value"
    await draining
    with pytest.raises(errors.ConnectionError):
        client.open()


@pytest.mark.gen_test
async def test_calls_that_do_not_end_within_the_drain_time_are_ended(unreachable: str) -> None:
    client = Client(unreachable)
    call = client.call("t")
    began = time.monotonic()
    await client.drain(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 1
    with pytest.raises(errors.ConnectionError, match="closed"):
        await call
    await client.drain()  # no calls are left to drain


# --- durations ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_every_duration_may_be_a_string(unreachable: str) -> None:
    client = Client(unreachable)
    call = client.call("t", expiration="1m30s", timeout="500ms")
    assert call.message.timeout == 0.5
    assert call.message.deadline == pytest.approx(time.time() + 90, abs=2)
    with pytest.raises(errors.ConnectionError, match=r"not reached within 0\.02 s"):
        await client.connect(timeout="20ms")
    with pytest.raises(errors.ConnectionError, match=r"within 0\.02 s"):
        await client.publish("news", timeout="20ms")
    await client.drain("10ms")
    assert call.done()
