"""`crew publish`: publish an event from the shell."""

from typing import Any

import click

from crew.cli.connection import connected, url_option
from crew.cli.exit_status import exit_on_error
from crew.cli.name import topic_argument
from crew.cli.payload import json_argument


@click.command("publish")
@topic_argument
@json_argument
@url_option
def command(*, topic: str, payload: Any, url: str | None) -> None:
    """Publish an event on a topic.

    JSON is the payload of the event; `-` reads it from standard input. The broker discards the event if the topic has
    no subscribers.
    """
    with exit_on_error(), connected(url) as client:
        client.publish(topic, payload)
