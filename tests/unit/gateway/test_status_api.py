"""`/healthz` and `/readyz`, and calls while the broker is unavailable."""

import json
import time

import pytest

from tests.support.site import logged
from tests.support.waiting import until
from tests.unit.gateway.calls.test_call_api import HttpClient, http_client


async def detail(http: HttpClient, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and detail of the response."""
    response = await http.request(method, path)
    return response.code, json.loads(response.body).get("detail", "") if response.body else ""


@pytest.mark.gen_test
async def test_a_gateway_without_a_broker_is_healthy_not_ready_and_gives_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with http_client() as http:
        assert await detail(http, "/healthz") == (200, "")
        assert (await http.request("HEAD", "/healthz")).code == 200
        assert await detail(http, "/readyz") == (503, "the broker has not been reached yet")
        await until(lambda: "refused" in str(http.site.crew.obstacle))  # the request made it connect
        assert await detail(http, "/readyz") == (503, "the broker is unavailable: connection refused")
        response = await http.request("GET", "/readyz")
        assert response.headers["Retry-After"] == "2"
        assert json.loads(response.body)["type"] == "urn:crew:problem:not-ready"
        assert (await http.request("HEAD", "/readyz")).code == 503
        await http.site.crew.close()
        assert await detail(http, "/readyz") == (503, "the client was closed")
    assert logged(caplog) == []


@pytest.mark.gen_test
async def test_a_gateway_with_fail_fast_responds_503_at_once_while_the_broker_is_unavailable() -> None:
    async with http_client(fail_fast=True) as http:
        began = time.monotonic()
        response = await http.post("/call/t?expiration=30")
        assert time.monotonic() - began < 5
        assert (response.code, response.headers["Retry-After"]) == (503, "2")
        assert "task 't' is not called: the broker" in json.loads(response.body)["detail"]


@pytest.mark.gen_test
async def test_a_draining_gateway_refuses_calls_with_503() -> None:
    async with http_client() as http:
        http.site.crew._is_draining = True
        assert await detail(http, "/readyz") == (503, "the client is draining: it makes no new calls")
        assert await detail(http, "/call/t", "POST") == (503, "the client is draining: it makes no new calls")
