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
def test_routes_are_mounted_below_the_prefix_literally(client: Client, prefix: str) -> None:
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
        ({"max_expiration": "soon"}, "max_expiration must be a number of seconds, or text like .* not 'soon'"),
        ({"max_body": 0}, "max_body must be an int from 1 to 16777216 bytes, not 0"),
        ({"max_body": 2**30}, "max_body must be an int from 1 to 16777216 bytes"),
        ({"max_body": True}, "max_body must be .* not True"),
    ],
)
def test_an_invalid_limit_is_named(client: Client, argument: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        routes(client, **argument)


def test_every_handler_limits_the_body_that_it_stores(client: Client, tmp_path: Path) -> None:
    for route in routes(client, JobStore(f"sqlite:///{tmp_path}/jobs.db")):
        assert getattr(route.handler_class, "_stream_request_body", False), route  # what `stream_request_body` sets
