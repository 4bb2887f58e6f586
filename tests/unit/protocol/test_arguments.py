"""Unknown arguments: the error names the function that was called, not an inner one."""

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
from crew.protocol.arguments import check_names, renamed, with_new_names
from crew.worker import HandlerClass, Task, context
from tests.support.a_job import url_of
from tests.support.broker import unreachable_url


def test_the_error_names_function_argument_nearest_match_and_all_arguments() -> None:
    check_names("f", ["a"], ["a", "timeout"])
    with pytest.raises(
        TypeError, match=r"^f\(\) has no argument 'timout' \(did you mean 'timeout'\?\): it takes a, timeout$"
    ):
        check_names("f", ["a", "timout"], ["a", "timeout"])


def test_the_value_of_an_old_name_is_taken_with_a_warning_that_names_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"^f\(\): the argument 'ttl' is now named 'expiration'"):
        assert renamed("f", "ttl", "expiration", 5) == 5


def test_old_names_become_new_ones_with_a_warning_each() -> None:
    new_names = {"ttl": "expiration", "weight": "priority", "unused": "other"}
    with pytest.warns(DeprecationWarning, match="is now named") as warned:
        assert with_new_names("f", {"ttl": 1, "weight": 2, "x": 3}, new_names) == {
            "expiration": 1,
            "priority": 2,
            "x": 3,
        }
    assert sorted(str(one.message) for one in warned) == [
        "f(): the argument 'ttl' is now named 'expiration'",
        "f(): the argument 'weight' is now named 'priority'",
    ]


def test_new_names_are_taken_without_a_warning() -> None:
    assert with_new_names("f", {"expiration": 1}, {"ttl": "expiration"}) == {"expiration": 1}


@pytest.mark.gen_test
async def test_an_unknown_argument_of_submit_is_an_error_with_all_that_it_takes(tmp_path: Path) -> None:
    with unreachable_url() as url:
        client = Client(url, store=JobStore(url_of(tmp_path)))
        for submit in (client.submit, client.jobs.submit):
            with pytest.raises(TypeError) as raised:
                await submit("t", countdown=10)  # type: ignore[call-arg]
            text = str(raised.value)
            assert text.startswith("submit() has no argument 'countdown': it takes task, payload, priority, timeout,")
            assert "order" not in text
        with pytest.raises(TypeError, match=r"^submit\(\) has no argument 'max_message'"):
            await client.jobs.submit("t", max_message=1)
        await client.close()


@pytest.mark.gen_test
async def test_an_unknown_argument_of_serve_is_an_error_with_all_that_it_takes() -> None:
    text = r"^serve\(\) has no argument 'xheader' \(did you mean 'xheaders'\?\): it takes application, client, port"
    with unreachable_url() as url, pytest.raises(TypeError, match=text):
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
def test_an_unknown_argument_is_an_error_that_names_the_function(number: int) -> None:
    name, call = CALLS[number]
    with unreachable_url() as url, BlockingClient(url) as blocking, pytest.raises(TypeError) as raised:
        call(Client(url), blocking)
    text = str(raised.value)
    assert re.search(rf"\b{re.escape(name.partition('.')[2] or name)}", text)
    assert "'countdown'" in text
