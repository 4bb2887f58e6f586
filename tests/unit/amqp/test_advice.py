"""What a user can do about a connection that was refused."""

import pytest

from crew.amqp.advice import START_ONE, advice_on
from crew.amqp.errors import LinkFault, LinkRefused


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "[::1]"])
def test_where_nothing_listens_on_this_machine_a_broker_can_be_started(host: str) -> None:
    assert advice_on(LinkFault("connection refused"), f"amqp://me:secret@{host}:5672/") == START_ONE


@pytest.mark.parametrize("host", ["10.0.0.1", "broker.example", "[2001:db8::1]"])
def test_nothing_is_advised_about_the_broker_of_another_machine(host: str) -> None:
    assert advice_on(LinkFault("connection refused"), f"amqp://{host}/") == ""


@pytest.mark.parametrize("fault", [LinkFault("the connection broke"), LinkRefused("user name or password refused")])
def test_nothing_is_advised_where_something_listens(fault: LinkFault) -> None:
    assert advice_on(fault, "amqp://127.0.0.1/") == ""
