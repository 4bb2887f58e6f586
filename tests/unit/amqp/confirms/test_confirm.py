"""One published message and its result."""

import asyncio

import pytest

from crew.amqp import Confirm, ConfirmStatus
from crew.amqp.confirms.confirm import Forwarded
from crew.protocol.properties import Properties
from tests.support.links import never

CONFIRMED, LOST = ConfirmStatus.CONFIRMED, ConfirmStatus.LOST


def test_a_callback_gets_the_result_when_it_is_known() -> None:
    confirm, results = Confirm(), []  # type: ignore[var-annotated]
    confirm.then(results.append)
    assert (results, confirm.status) == ([], None)
    confirm.settle(CONFIRMED)
    assert (results, confirm.status) == ([CONFIRMED], CONFIRMED)


def test_a_callback_that_is_set_after_the_result_is_called_at_once() -> None:
    confirm, results = Confirm(), []  # type: ignore[var-annotated]
    confirm.settle(LOST)
    confirm.then(results.append)
    assert results == [LOST]


def test_the_last_callback_replaces_the_one_before() -> None:
    confirm, results = Confirm(), []  # type: ignore[var-annotated]
    confirm.then(never)
    confirm.then(results.append)
    confirm.settle(CONFIRMED)
    assert results == [CONFIRMED]


@pytest.mark.gen_test
async def test_a_confirm_that_is_awaited_returns_its_result() -> None:
    waits, known = Confirm(), Confirm(status=LOST)
    asyncio.get_running_loop().call_soon(waits.settle, CONFIRMED)
    assert (await waits, await known) == (CONFIRMED, LOST)


@pytest.mark.gen_test
async def test_a_result_after_the_wait_was_canceled_is_kept() -> None:
    confirm = Confirm()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await confirm
    confirm.settle(CONFIRMED)
    assert await confirm is CONFIRMED


def test_an_invalid_message_has_a_reason_and_any_other_has_none() -> None:
    confirm, results = Confirm(), []  # type: ignore[var-annotated]
    confirm.then(results.append)
    assert confirm.reason == ""
    confirm.refuse("header 'x' is too long")
    assert (results, confirm.reason) == ([ConfirmStatus.INVALID], "header 'x' is too long")


@pytest.mark.parametrize("kind", [Confirm, Forwarded])
def test_a_copy_is_the_same_message_not_yet_published(kind: type[Confirm]) -> None:
    confirm = kind("e", "key", Properties(correlation_id="17", delivery_mode=2), b"body", True)
    confirm.then(never)
    again = confirm.copy()
    again.settle(LOST)
    assert (type(again), again.key, again.is_persistent) == (kind, "17", True)
    assert (again.exchange, again.routing_key, again.body, again.mandatory) == ("e", "key", b"body", True)
    assert again.properties is confirm.properties
    assert confirm.status is None


@pytest.mark.parametrize(("mode", "expected"), [(2, True), (1, False), (None, False)])
def test_only_a_message_with_delivery_mode_2_is_persistent(mode: int | None, expected: bool) -> None:
    assert Confirm(properties=Properties(delivery_mode=mode)).is_persistent is expected
