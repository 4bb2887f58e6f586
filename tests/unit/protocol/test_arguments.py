"""Arguments that a public function does not have: the sentence names that function, not one that it calls."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.web import Application

from crew import Client
from crew.client.blocking import Client as BlockingClient
from crew.gateway import routes, serve
from crew.jobs import JobStore
from crew.protocol.arguments import check_names
from crew.worker import HandlerClass, Task, context
from tests.support.a_job import url_of
from tests.support.broker import unreachable_url


def test_the_sentence_names_the_function_the_argument_the_nearest_and_all_others() -> None:
    check_names("f", ["a"], ["a", "timeout"])
    with pytest.raises(
        TypeError, match=r"^f\(\) has no argument 'timout' \(did you mean 'timeout'\?\): it takes a, timeout$"
    ):
        check_names("f", ["a", "timout"], ["a", "timeout"])


@pytest.mark.gen_test
async def test_a_submit_names_itself_and_what_it_takes(tmp_path: Path) -> None:
    with unreachable_url() as url:
        client = Client(url, store=JobStore(url_of(tmp_path)))
        for submit in (client.submit, client.jobs.submit):
            with pytest.raises(TypeError) as raised:
                await submit("t", countdown=10)  # type: ignore[call-arg]
            told = str(raised.value)
            assert told.startswith("submit() has no argument 'countdown': it takes task, payload, priority, timeout,")
            assert "order" not in told
        with pytest.raises(TypeError, match=r"^submit\(\) has no argument 'max_message'"):
            await client.jobs.submit("t", max_message=1)
        await client.close()


@pytest.mark.gen_test
async def test_serve_names_itself_and_what_it_takes() -> None:
    told = r"^serve\(\) has no argument 'xheader' \(did you mean 'xheaders'\?\): it takes application, client, port"
    with unreachable_url() as url, pytest.raises(TypeError, match=told):
        await serve(Application(), Client(url), xheader=True)


CALLS: list[tuple[str, Callable[[Client, BlockingClient], Any]]] = [
    ("Client.call()", lambda client, _: client.call("t", countdown=1)),  # type: ignore[call-arg]
    ("Client.call()", lambda client, _: client.parallel().call("t", countdown=1)),  # type: ignore[call-arg]
    ("Client.publish()", lambda client, _: client.publish("t", countdown=1)),  # type: ignore[call-arg]
    ("Client.call()", lambda _, client: client.call("t", countdown=1)),  # type: ignore[call-arg]
    ("Client.publish()", lambda _, client: client.publish("t", countdown=1)),  # type: ignore[call-arg]
    ("Client.__init__()", lambda *_: BlockingClient(countdown=1)),  # type: ignore[call-arg]
    ("Context.call()", lambda *_: context.call("t", countdown=1)),  # type: ignore[call-arg]
    ("Task.__init__()", lambda *_: Task("t", countdown=1)),  # type: ignore[call-arg]
    ("HandlerClass.bind()", lambda *_: HandlerClass.bind("t", countdown=1)),  # type: ignore[call-arg]
    ("routes()", lambda client, _: routes(client, countdown=1)),  # type: ignore[call-arg]
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_whatever_is_called_with_an_argument_that_it_has_not_names_itself(number: int) -> None:
    name, call = CALLS[number]
    with unreachable_url() as url, BlockingClient(url) as blocking, pytest.raises(TypeError) as raised:
        call(Client(url), blocking)
    told = str(raised.value)
    assert re.search(rf"\b{re.escape(name.partition('.')[2] or name)}", told)
    assert "'countdown'" in told
