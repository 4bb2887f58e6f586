"""The gateway's check of URLs: which are refused at once, and which are left to the worker."""

import asyncio
import socket
import threading
import time

import msgspec
import pytest

from crew.gateway.problems import RequestRefused
from crew.gateway.url_guard import MAX_LOOKUPS, UrlGuard, look_up
from crew.jobs.specification import specify
from crew.protocol.http_job import request
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.url import HttpUrl, parse_url
from crew.protocol.topology import HTTP_TASK
from tests.unit.gateway.calls.test_call_api import JSON, http_client, problem

PUBLIC, PRIVATE, LOOPBACK = "93.184.216.34", "10.0.0.7", "::1"


def guard(*addresses: str, allowed: tuple[str, ...] = ()) -> UrlGuard:
    """A guard for which every name has these addresses; without any, no name can be resolved."""

    async def resolve(host: str, port: int) -> list[str]:
        if not addresses:
            raise OSError("unknown")
        return list(addresses)

    return UrlGuard(AllowedHosts.of(allowed), resolve=resolve)


async def refusal(guard: UrlGuard, url: str) -> tuple[int, str, str] | None:
    try:
        await guard.check(parse_url(url))
    except RequestRefused as refused:
        return refused.status_code, refused.type, refused.detail
    return None


@pytest.mark.gen_test
async def test_a_host_with_only_forbidden_addresses_is_refused() -> None:
    found = await refusal(guard(PRIVATE, LOOPBACK), "http://intern.example/")

    assert found is not None
    assert found[:2] == (422, "urn:crew:problem:forbidden-address")
    assert found[2].startswith("host 'intern.example' has a private address, which URL jobs may not reach")
    assert PRIVATE not in found[2]


@pytest.mark.gen_test
async def test_a_host_with_an_allowed_address_is_left_to_the_worker() -> None:
    assert await refusal(guard(PRIVATE, PUBLIC), "http://both.example/") is None
    assert await refusal(guard(PRIVATE, allowed=("intern.example",)), "http://intern.example/") is None
    assert await refusal(guard(PRIVATE, allowed=("10.0.0.0/8:80",)), "http://intern.example/") is None


@pytest.mark.gen_test
async def test_a_host_that_cannot_be_resolved_is_left_to_the_worker() -> None:
    assert await refusal(guard(), "http://unknown.example/") is None


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]/", "http://localhost/", "http://a.localhost./"])
@pytest.mark.gen_test
async def test_localhost_names_and_loopback_addresses_are_refused_without_a_lookup(url: str) -> None:
    found = await refusal(guard(PUBLIC), url)

    assert found is not None
    assert "has a loopback address" in found[2]


@pytest.mark.gen_test
async def test_a_name_server_that_does_not_answer_is_not_waited_for() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return [PRIVATE]

    began = time.monotonic()
    assert await refusal(UrlGuard(AllowedHosts(), resolve=resolve, timeout=0.05), "http://slow.example/") is None
    assert time.monotonic() - began < 1


@pytest.mark.gen_test
async def test_name_lookups_do_not_block_the_event_loop() -> None:
    assert {"127.0.0.1", "::1"} & set(await look_up("localhost", 80))
    with pytest.raises(socket.gaierror):
        await look_up("unknown.invalid", 80)


@pytest.mark.gen_test
async def test_a_call_of_the_url_task_is_checked_like_a_url_job() -> None:
    async with http_client() as http:
        url = msgspec.json.encode({"url": "http://169.254.169.254/latest"})
        refused = problem(await http.post("/call/crew.http", url, JSON), 422)
        none = problem(await http.post("/call/crew.http", b'{"url": "ftp://x/"}', JSON), 422)
        assert http.site.calls == []
    assert refused["type"] == "urn:crew:problem:forbidden-address"
    assert "has a metadata address" in refused["detail"]
    assert (none["type"], none["detail"].partition(":")[0]) == ("urn:crew:problem:bad-data", "'ftp")


@pytest.mark.gen_test
async def test_a_lookup_without_a_thread_releases_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot_start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot_start)
        for _ in range(MAX_LOOKUPS):
            assert await look_up("127.0.0.1", 80) == []
    line = "name lookup failed, leaving the check to the worker: no thread: can't start new thread host=127.0.0.1"
    assert caplog.messages.count(line) == 64
    assert await look_up("127.0.0.1", 80) == ["127.0.0.1"]


@pytest.mark.gen_test
async def test_the_gateway_parses_a_url_job_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []

    def parse(url: object) -> HttpUrl:
        parsed.append(url)
        return parse_url(url)

    monkeypatch.setattr(request, "parse_url", parse)
    specification = specify(HTTP_TASK, {"url": "http://93.184.216.34/x"}, timeout=5)
    await guard().check_job(specification)
    assert specification.job.target == "93.184.216.34"
    assert len(parsed) == 1
    with pytest.raises(RequestRefused):
        await guard().check_job(specify(HTTP_TASK, {"url": "http://127.0.0.1/"}))
    await guard().check_job(specify("t", {"url": "http://127.0.0.1/"}))
