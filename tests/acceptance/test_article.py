"""The article's own handlers over HTTP: with and without `yield`; the client connects before the loop runs."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.support.paths import PROGRAM_FOLDER, TASK_FOLDER
from tests.support.processes import Process, running
from tests.support.waiting import eventually
from tests.support.web import Web

SOON = 15.0  # seconds, on a busy machine
IN_TIME = 1.5  # seconds for a call with an expiration of 1 s, plus 0.5 s


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory, vhost_url: Callable[[], str]) -> Iterator[Process]:
    """The application and one worker process."""
    with running(tmp_path_factory.mktemp("article"), {"CREW_AMQP_URL": vhost_url()}) as processes:
        processes.python(TASK_FOLDER / "article_worker.py", "--processes=1").says("serving")
        yield processes.python(PROGRAM_FOLDER / "article_app.py")


@pytest.fixture(scope="module")
def site(master: Process) -> Web:
    """The address of the application."""
    return Web.of(master)


def post(site: Web, path: str, body: bytes) -> int:
    request = urllib.request.Request(site.address + path, body, {"Content-Type": "text/plain"})
    try:
        with urllib.request.urlopen(request, timeout=SOON) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


@pytest.mark.parametrize(
    "path", ["publish2", "publish3", "publish", "fire"], ids=["no yield", "yield", "a worker", "a call without yield"]
)
def test_an_event_published_by_a_handler_reaches_a_long_poll(site: Web, path: str) -> None:
    """The first request is the first use of the client, which connected and subscribed before the loop ran."""
    poll = site.begin("/subscribe")
    eventually(lambda: site.get("/listeners").text == "1 for <Subscription to test: active>", timeout=SOON)
    body = f"by /{path}".encode()
    assert post(site, path, body) == 200
    assert poll.response(SOON).text == f"by /{path}"


def test_every_other_handler_of_the_article_responds(site: Web) -> None:
    assert site.get("/").text == "int: 1000000"
    for path in ("/stat", "/stat2"):
        assert site.get(path).text.startswith("dict: {'uuid': ")
    parallel = site.get("/parallel").text
    assert parallel.startswith("Test result: 1\nStat result: {'uuid': ")
    fast = site.get("/fast")
    assert fast.text == "Timeout"
    assert fast.seconds < IN_TIME


def test_publishing_an_invalid_value_raises_in_the_handler(site: Web, master: Process) -> None:
    assert post(site, "wrong", b"x") == 500
    assert "ValueError" in master.output


def test_no_coroutine_or_task_was_left_unawaited(site: Web, master: Process) -> None:
    assert site.get("/listeners").text == "0 for <Subscription to test: active>"
    for message in ("never awaited", "nothing awaited", "was destroyed"):
        assert message not in master.output
