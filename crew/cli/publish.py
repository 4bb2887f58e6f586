"""`crew publish`: one event from the shell."""

from typing import Any

import click

from crew.cli.connection import connected, url_option
from crew.cli.exit_status import reported
from crew.cli.name import topic_argument
from crew.cli.payload import json_argument


@click.command("publish")
@topic_argument
@json_argument
@url_option
def command(*, topic: str, data: Any, url: str | None) -> None:
    """Publish on a topic.

    JSON is what the subscribers are given; `-` reads it from standard input. Without subscribers it reaches nobody.
    """
    with reported(), connected(url) as client:
        client.publish(topic, data)
