"""`crew subscribe`: print events to standard output."""

import itertools
import sys
from queue import SimpleQueue

import click

from crew.cli.connection import connected, url_option
from crew.cli.exit_status import ExitStatus, exit_on_error
from crew.cli.name import topics_argument
from crew.cli.payload import write_line
from crew.client.events.subscription import Event
from crew.command_line import Count, print_line


@click.command("subscribe")
@topics_argument
@click.option("--count", type=Count(1), help="exit after this number of events")
@url_option
def command(*, topics: tuple[str, ...], count: int | None, url: str | None) -> None:
    """Print the events of topics, one line of JSON each.

    Each line is {"topic": ..., "payload": ..., "headers": ...}. In TOPIC, * matches one word between dots, and #
    matches any number of words. Ctrl-C stops the command.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    with exit_on_error(), connected(url) as client:
        for topic in dict.fromkeys(topics):
            client.subscribe(topic, events.put)
        print_line(f"subscribed to {', '.join(topics)}", err=True)
        try:
            for _ in range(count) if count else itertools.count():
                event = events.get()
                write_line({"topic": event.topic, "payload": event.payload, "headers": event.headers})
        except KeyboardInterrupt:
            sys.exit(ExitStatus.OK)  # the normal end of this command
