"""A parked message as a page of text."""

from crew.cli.parked.text import as_page
from crew.protocol.encoding import codec
from crew.protocol.encoding.call_arguments import Arguments
from crew.protocol.parked_message import ParkedMessage
from crew.protocol.properties import Properties


def test_the_arguments_of_a_call_are_shown_as_json() -> None:
    message = ParkedMessage(
        id="1",
        task="resize",
        parked_at=None,
        reason="crashed",
        host=None,
        exit_status=None,
        properties=Properties(),
        body=codec.encode(Arguments(["cat.png"], {"width": 640})),
    )
    page = as_page(message)
    assert '"args": [' in page
    assert '"cat.png"' in page
    assert '"width": 640' in page
