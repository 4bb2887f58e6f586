"""`crew parked`: the messages that were given up, looked at, sent to their tasks again, or deleted."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from crew.cli.confirm import confirm, yes_option
from crew.cli.connection import url_option, visited
from crew.cli.duration import Duration
from crew.cli.exit_status import ExitStatus, reported
from crew.cli.parked.text import as_json, as_line, as_page
from crew.cli.shown import shown
from crew.client.admin import parked
from crew.client.admin.parked import Done, Selection
from crew.command_line import Group, Seconds, complain, say, say_bytes
from crew.errors import CrewError
from crew.protocol import deadline
from crew.protocol.parked_message import ParkedMessage

F = TypeVar("F", bound=Callable[..., Any])

_ids_argument: Final = click.argument("ids", metavar="[ID]...", nargs=-1)
_task_option: Final = click.option("--task", metavar="NAME", help="those of one task")
_all_option: Final = click.option("--all", "everything", is_flag=True, help="all of them")


@click.group("parked", cls=Group)
def command() -> None:
    """Look after the messages that were given up.

    A call that took down three worker processes, and a message that nobody can read, are kept in the queue crew.parked.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # for terminals without UTF-8


@command.command("list")
@click.option("--json", "is_json", is_flag=True, help="a line of JSON each, with properties and headers")
@url_option
def list_messages(*, is_json: bool, url: str | None) -> None:
    """Print a line for each message, the oldest first: id, task, when, exit status, host, reason."""

    def show(message: ParkedMessage) -> None:
        say(as_json(message) if is_json else as_line(message))

    with reported():
        count = visited(url, lambda visit: parked.look(visit, show))
        sys.stdout.flush()
        say(f"{_messages(count)} in crew.parked", err=True)


@command.command("show")
@click.argument("id")
@click.option("--raw", is_flag=True, help="print the body alone, byte for byte as it was sent")
@url_option
def show_message(*, id: str, raw: bool, url: str | None) -> None:
    """Print all of one message: why it was given up, its properties, headers and payload."""
    found: list[ParkedMessage] = []

    def look(message: ParkedMessage) -> bool:
        if message.id == id:
            found.append(message)
        return bool(found)

    with reported():
        visited(url, lambda visit: parked.look(visit, look))
        _check_found(set() if found else {id})
        if raw:
            say_bytes(found[0].body.data)
        else:
            say(as_page(found[0]))
        sys.stdout.flush()


@command.command("replay")
@_ids_argument
@_task_option
@_all_option
@yes_option
@click.option(
    "--expiration",
    type=Seconds(0, deadline.MAX_DURATION, min_open=True),
    help="seconds until they are not started any longer",
)
@click.option(
    "--unsigned",
    is_flag=True,
    help="send also what was refused because it was not signed, and sign it now: look at it first",
)
@url_option
def replay_messages(
    *,
    ids: tuple[str, ...],
    task: str | None,
    everything: bool,
    yes: bool,
    expiration: float | None,
    unsigned: bool,
    url: str | None,
) -> None:
    """Send messages to the queues of their tasks again.

    --all asks first, and says how many they are.

    A message leaves crew.parked when the broker has it in the queue of its task; where there is no such queue, or it is
    full, it stays. Nobody is told what the task returns: the caller was answered when the message was parked.
    """
    selection = _selection(ids, everything, task=task)
    with reported():
        if everything and not yes:
            count = visited(url, lambda visit: parked.count(visit, selection))
            confirm(f"Send {_messages(count)} to their tasks again?")
        done = visited(
            url, lambda visit: parked.replay(visit, selection, expiration=expiration, trusts_unsigned=unsigned)
        )
        say(f"{_messages(done.count)} sent to their tasks again")
        _check(done)


@command.command("purge")
@_ids_argument
@_task_option
@click.option("--older-than", type=Duration(), help="those that were parked longer ago: 90 seconds, 15m, 12h, 7d")
@_all_option
@yes_option
@url_option
def purge_messages(
    *, ids: tuple[str, ...], task: str | None, older_than: float | None, everything: bool, yes: bool, url: str | None
) -> None:
    """Delete messages for ever."""
    before = None if older_than is None else time.time() - older_than
    selection = _selection(ids, everything, task=task, before=before)
    with reported():
        if not yes:
            count = visited(url, lambda visit: parked.count(visit, selection))
            confirm(f"Delete {_messages(count)} for ever?")
        done = visited(url, lambda visit: parked.purge(visit, selection))
        say(f"{_messages(done.count)} deleted")
        _check(done)


def _selection(ids: tuple[str, ...], everything: bool, **others: Any) -> Selection:
    """What the command line means; wrong usage where it does not say, or says it twice."""
    has_others = any(value is not None for value in others.values())
    if everything == (bool(ids) or has_others):
        raise click.UsageError("say which messages are meant: their ids, --all, or what they have in common")
    return Selection(ids=frozenset(ids) or None, **others)


def _check(done: Done) -> None:
    for id, why in done.left:
        complain(f"{id} stays parked: {shown(why)}")
    _check_found(done.missing)
    if done.left:
        sys.exit(ExitStatus.OTHER)


def _check_found(missing: set[str]) -> None:
    if missing:
        raise CrewError(f"no parked message has the id {shown(', '.join(sorted(missing)))}")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
