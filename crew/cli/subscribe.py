"""`crew subscribe`: events on standard output."""

import itertools
import sys
from queue import SimpleQueue

import click

from crew.cli.connection import connected, url_option
from crew.cli.exit_status import ExitStatus, reported
from crew.cli.name import topics_argument
from crew.cli.payload import write_line
from crew.client.events.subscription import Event
from crew.command_line import Count, say


@click.command("subscribe")
@topics_argument
@click.option("--count", type=Count(1), help="end after so many events")
@url_option
def command(*, topics: tuple[str, ...], count: int | None, url: str | None) -> None:
    """Print the events of topics, one line of JSON each.

    A line is {"topic": ..., "payload": ..., "headers": ...}. In a TOPIC, * stands for one word between dots, # for any
    number of them. Ctrl-C ends it.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    with reported(), connected(url) as client:
        for topic in dict.fromkeys(topics):
            client.subscribe(topic, events.put)
        say(f"subscribed to {', '.join(topics)}", err=True)
        try:
            for _ in range(count) if count else itertools.count():
                event = events.get()
                write_line({"topic": event.topic, "payload": event.payload, "headers": event.headers})
        except KeyboardInterrupt:
            sys.exit(ExitStatus.OK)  # the way to end it, and no failure
