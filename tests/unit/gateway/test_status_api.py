"""`/healthz` and `/readyz`, and a gateway that does not wait for its broker."""

import json
import time

import pytest

from tests.support.site import said
from tests.support.waiting import until
from tests.unit.gateway.calls.test_call_api import Visitor, visitor


async def detail(visit: Visitor, path: str, method: str = "GET") -> tuple[int, str]:
    """Status of the answer, and what it says."""
    answer = await visit.ask(method, path)
    return answer.code, json.loads(answer.body).get("detail", "") if answer.body else ""


@pytest.mark.gen_test
async def test_a_gateway_without_a_broker_is_alive_and_not_ready_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with visitor() as visit:
        assert await detail(visit, "/healthz") == (200, "")
        assert (await visit.ask("HEAD", "/healthz")).code == 200
        assert await detail(visit, "/readyz") == (503, "the broker has not been reached yet")
        await until(lambda: "refused" in str(visit.web.crew.obstacle))  # asking has made it connect
        assert await detail(visit, "/readyz") == (503, "the broker is away: connection refused")
        answer = await visit.ask("GET", "/readyz")
        assert answer.headers["Retry-After"] == "2"
        assert json.loads(answer.body)["type"] == "urn:crew:problem:not-ready"
        assert (await visit.ask("HEAD", "/readyz")).code == 503
        await visit.web.crew.close()
        assert await detail(visit, "/readyz") == (503, "the client was closed")
    assert said(caplog) == []


@pytest.mark.gen_test
async def test_a_gateway_that_fails_fast_answers_503_at_once_while_the_broker_is_away() -> None:
    async with visitor(fail_fast=True) as visit:
        began = time.monotonic()
        answer = await visit.post("/call/t?expiration=30")
        assert time.monotonic() - began < 5
        assert (answer.code, answer.headers["Retry-After"]) == (503, "2")
        assert "task 't' is not called: the broker" in json.loads(answer.body)["detail"]


@pytest.mark.gen_test
async def test_a_gateway_that_drains_refuses_calls_with_503() -> None:
    async with visitor() as visit:
        visit.web.crew._is_draining = True
        assert await detail(visit, "/readyz") == (503, "the client is draining: it makes no new calls")
        assert await detail(visit, "/call/t", "POST") == (503, "the client is draining: it makes no new calls")
