"""`crew worker --http`: the built-in task for URL jobs, in real worker processes, with real servers."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.protocol.topology import HTTP_TASK
from tests.integration.conftest import HTTP
from tests.support.http_site import http_site, saying
from tests.support.processes import Process, Processes, running
from tests.support.waiting import until

TASK = """
import os
from crew.worker import Task, run

@Task("own")
def own(data):
    return data

if __name__ == "__main__":
    run()
"""


@pytest.fixture
def own_url(vhost_url: Callable[[], str]) -> str:
    """URL of a virtual host for this test only."""
    return vhost_url()


@pytest.fixture
def own_processes(tmp_path: Path, own_url: str) -> Iterator[Processes]:
    """Processes on that virtual host; they are stopped after the test."""
    with running(tmp_path, {"CREW_AMQP_URL": own_url}, preloaded=True) as processes:
        yield processes


def perform(client: Client, url: str, **request: Any) -> Any:
    """Call the task for URL jobs."""
    return client.call(HTTP_TASK, {"url": url, **request}, expiration=20)


@pytest.mark.gen_test
async def test_a_request_is_sent_and_its_response_is_returned_whatever_the_status(
    http_url: str, http_worker: Process
) -> None:
    async with http_site() as site, Client(http_url) as client:
        response = await perform(client, site.url("/echo"), data={"a": 1})
        missing = await perform(client, site.url("/status?code=503&reason=Not+Now"))
    assert (response["code"], response["encoding"], site.methods()[0]) == (200, "text", "POST")
    assert (missing["code"], missing["reason"]) == (503, "Not Now")


@pytest.mark.gen_test
async def test_five_hundred_requests_run_in_one_process(http_url: str, http_worker: Process) -> None:
    async with http_site() as site, Client(http_url) as client:
        began = time.monotonic()
        responses = await asyncio.gather(*(perform(client, site.url("/slow?for=0.5")) for _ in range(500)))
        assert time.monotonic() - began < 10  # 250 s, one after the other
    assert {one["code"] for one in responses} == {200}


@pytest.mark.gen_test
@pytest.mark.parametrize("host", ["127.0.0.2", "169.254.169.254", "[::1]", "localhost.localdomain.invalid"])
async def test_an_internal_host_is_refused_with_an_error_of_one_line(
    http_url: str, http_worker: Process, host: str
) -> None:
    async with Client(http_url) as client:
        with pytest.raises(crew.TaskFailed) as failed:
            await perform(client, f"http://me:s3cret@{host}:1/?t0ken")
    kind = "RequestFailed" if "invalid" in host else "ForbiddenAddress"
    assert failed.value.type_name.endswith(kind)
    assert "\n" not in failed.value.message
    assert "s3cret" not in str(failed.value) + failed.value.traceback
    assert "t0ken" not in str(failed.value) + failed.value.traceback


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "payload", [None, {"url": "http://127.1/"}, {"url": "http://a/", "headers": {"A": "b\r\nC: d"}}]
)
async def test_an_invalid_request_fails_only_its_own_call(http_url: str, http_worker: Process, payload: object) -> None:
    async with Client(http_url) as client:
        with pytest.raises(crew.TaskFailed, match="ValueError"):
            await client.call(HTTP_TASK, payload)


@pytest.mark.gen_test
async def test_a_request_that_takes_too_long_times_out_and_closes_its_connection(
    http_url: str, http_worker: Process
) -> None:
    async with http_site() as site, Client(http_url) as client:
        with pytest.raises(
            crew.TimeoutError, match=r"GET http://127\.0\.0\.1:\d+/slow timed out: no complete response within 0\.3 s"
        ):
            await perform(client, site.url("/slow", login="me:s3cret@"), timeout=0.3)
        await until(lambda: site.left, timeout=1)
        with pytest.raises(crew.TimeoutError):  # the timeout of the call
            await client.call(HTTP_TASK, {"url": site.url("/slow")}, timeout=0.3)
        await until(lambda: len(site.left) == 2, timeout=1)
        assert (await perform(client, site.url("/echo")))["code"] == 200
    assert site.methods() == ["GET", "GET", "GET"]


@pytest.mark.gen_test
async def test_canceling_a_request_closes_it_and_sends_a_delete_with_the_same_headers(
    http_url: str, http_worker: Process
) -> None:
    async with http_site() as site, Client(http_url) as client:
        call = perform(client, site.url("/slow?x=1", login="me:s3cret@"), data="x", headers={"X-A": "1"})
        await until(lambda: site.seen)
        began = time.monotonic()
        call.cancel()
        await until(lambda: len(site.seen) == 2, timeout=1)
        first, delete = site.seen
        ((path, when),) = site.left
    assert (delete.method, delete.path, delete.body) == ("DELETE", "/slow", b"")
    assert when - began < 1
    assert when <= delete.when
    for name in ("X-A", "Authorization", "User-Agent", "Content-Type"):
        assert delete.headers[name] == first.headers[name]
    assert path == "/slow"


@pytest.mark.gen_test
async def test_a_delete_completes_though_its_job_is_interrupted_every_second(
    http_url: str, http_worker: Process
) -> None:
    async with http_site() as site, Client(http_url) as client:
        call = perform(client, site.url("/stubborn?for=1.3"))
        await until(lambda: site.seen)
        call.cancel()
        await until(lambda: len(site.seen) == 2)
        await asyncio.sleep(max(0.0, site.seen[1].when + 1.25 - time.monotonic()))
        assert len(site.left) == 1  # only the first request was closed early


@pytest.mark.gen_test
async def test_a_delete_without_a_response_holds_no_slot_for_long(own_processes: Processes, own_url: str) -> None:
    worker = own_processes.crew("worker", "--http", "--allow-host=127.0.0.1", "--concurrency=1", "--grace=0.3")
    worker.says("serving")
    async with http_site() as site, Client(own_url) as client:
        call = perform(client, site.url("/stubborn"))
        await until(lambda: site.seen)
        call.cancel()
        assert (await perform(client, site.url("/echo")))["code"] == 200
    assert site.methods() == ["GET", "DELETE", "GET"]


@pytest.mark.gen_test
async def test_a_request_is_sent_again_without_a_delete_when_its_worker_stops(
    own_processes: Processes, own_url: str
) -> None:
    flags = ("worker", "--http", "--allow-host=127.0.0.1", "--drain=0.1")
    first = own_processes.crew(*flags).says("serving")
    async with http_site() as site, Client(own_url) as client:
        call = perform(client, site.url("/second"))
        await until(lambda: site.seen)
        own_processes.crew(*flags).says("serving")
        await asyncio.to_thread(first.stop)
        await until(lambda: site.left)
        assert (await call)["code"] == 200
    assert site.methods() == ["GET", "GET"]


@pytest.mark.gen_test
async def test_no_secret_of_a_request_reaches_the_log(own_processes: Processes, own_url: str) -> None:
    worker = own_processes.crew(*HTTP, "--verbose").says("serving")
    secret = {"headers": {"X-Token": "s3cret", "Cookie": "s3cret"}, "data": {"password": "s3cret"}}
    async with (
        http_site() as site,
        saying(b"nonsense s3cret") as broken,
        Client(own_url) as client,
    ):
        for server, path in ((site, "/echo"), (site, "/slow"), (broken, "/"), (site, "/endless"), (site, "/bomb")):
            url = server.url(f"{path}?key=s3cret", login="me:s3cret@")
            await asyncio.gather(perform(client, url, **secret, timeout=0.3), return_exceptions=True)
        for url in ("http://me:s3cret@10.0.0.1/", "http://me:s3cret@exa mple/", "http://me:s3cret@[::1/", "s3cret"):
            with pytest.raises(crew.TaskFailed) as failed:
                await perform(client, url, **secret)
            assert url == "s3cret" or "s3cret" not in str(failed.value) + failed.value.traceback
        call = perform(client, site.url("/slow?key=s3cret", login="me:s3cret@"), **secret)
        await until(lambda: len(site.seen) >= 5)
        call.cancel()
        await until(lambda: "DELETE" in site.methods())
    assert await asyncio.to_thread(worker.stop) == 0
    assert "s3cret" not in worker.output


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_script_serves_its_own_tasks_and_url_jobs(
    own_processes: Processes, own_url: str, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(TASK)
    worker = own_processes.python(
        "worker.py", "--http", folder=tmp_path, environment={"CREW_ALLOW_HOSTS": "10.0.0.0/8, 127.0.0.1"}
    )
    worker.says("serving 2 tasks: own, crew.http")
    async with http_site() as site, Client(own_url) as client:
        assert await client.call("own", 1) == 1
        assert (await perform(client, site.url("/echo")))["code"] == 200


def test_a_file_and_url_jobs_are_served_together(own_processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(TASK)
    own_processes.crew("worker", "worker.py", "--http").says("serving 2 tasks: own, crew.http")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "crew: Missing argument 'FILE_OR_MODULE'; to serve only URL jobs, use --http."),
        (
            ["--http", "--allow-host", "http://x/"],
            78,
            "crew: --allow-host or CREW_ALLOW_HOSTS: 'http://x/' is not a valid host",
        ),
        (
            ["worker.py", "--allow-host", "x"],
            78,
            "crew: --allow-host applies only to URL jobs: add --http, or remove --allow-host",
        ),
    ],
)
def test_an_invalid_command_line_is_an_error_without_a_traceback(
    own_processes: Processes, tmp_path: Path, arguments: list[str], status: int, sentence: str
) -> None:
    (tmp_path / "worker.py").write_text(TASK)
    worker = own_processes.crew("worker", *arguments)

    assert worker.ends(timeout=10) == status
    assert sentence in worker.output
    assert "Traceback" not in worker.output
