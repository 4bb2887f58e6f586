"""How crew's routes are mounted."""

import re
from pathlib import Path
from typing import Any

import pytest

from crew import Client
from crew.gateway import CallHandler, routes
from crew.jobs import JobStore
from tests.support.broker_addresses import nowhere


@pytest.fixture
def client() -> Client:
    with nowhere() as url:
        return Client(url)


@pytest.mark.parametrize("prefix", ["", "/crew", "/a.b/c"])
def test_they_stand_below_their_prefix_as_it_is_written(client: Client, prefix: str) -> None:
    route, *others = routes(client, prefix=prefix)
    assert [other.regex.pattern for other in others] == [
        f"{re.escape(prefix)}/{name}$" for name in ("healthz", "readyz", r"openapi\.json")
    ]
    assert route.handler_class is CallHandler
    assert route.regex.match(f"{prefix}/call/resize")
    assert not route.regex.match("/axb/c/call/resize")
    assert not route.regex.match(f"/else{prefix}/call/resize")
    assert not route.regex.match(f"{prefix}/call/")


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"prefix": "crew"}, "prefix must be .* not 'crew'"),
        ({"prefix": "/crew/"}, "prefix must be .* not '/crew/'"),
        ({"max_expiration": 0}, "max_expiration must be greater than 0"),
        ({"max_expiration": "60"}, "max_expiration must be a number of seconds, not '60'"),
        ({"max_body": 0}, "max_body must be an int from 1 to 16777216 bytes, not 0"),
        ({"max_body": 2**30}, "max_body must be an int from 1 to 16777216 bytes"),
        ({"max_body": True}, "max_body must be .* not True"),
    ],
)
def test_a_limit_that_cannot_be_one_is_named(client: Client, argument: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        routes(client, **argument)


def test_no_handler_has_a_body_kept_that_nobody_has_bounded(client: Client, tmp_path: Path) -> None:
    for route in routes(client, JobStore(f"sqlite:///{tmp_path}/jobs.db")):
        assert getattr(route.handler_class, "_stream_request_body", False), route  # what `stream_request_body` sets
