"""`crew parked`: list, show, replay and purge parked messages."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from crew.cli.confirm import confirm, yes_option
from crew.cli.connection import url_option, with_session
from crew.cli.exit_status import ExitStatus, exit_on_error
from crew.cli.parked.text import as_json, as_line, as_page
from crew.cli.shown import shown
from crew.client.admin import parked
from crew.client.admin.parked import ParkedResult, Selection
from crew.command_line import DurationType, Group, print_bytes, print_error, print_line
from crew.errors import CrewError
from crew.protocol.parked_message import ParkedMessage

F = TypeVar("F", bound=Callable[..., Any])

_ids_argument: Final = click.argument("ids", metavar="[ID]...", nargs=-1)
_task_option: Final = click.option("--task", metavar="NAME", help="only messages of this task")
_all_option: Final = click.option("--all", "everything", is_flag=True, help="all parked messages")


@click.group("parked", cls=Group)
def command() -> None:
    """List, show, replay or purge parked messages.

    Workers move a message to the queue crew.parked if it crashed three worker processes, cannot be read, or has no
    valid signature. It stays there until it is replayed or purged.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # for terminals without UTF-8


@command.command("list")
@click.option("--json", "is_json", is_flag=True, help="print one line of JSON per message, with properties and headers")
@url_option
def list_messages(*, is_json: bool, url: str | None) -> None:
    """Print one line per message, oldest first: id, task, time, exit status, host, reason."""

    def show(message: ParkedMessage) -> None:
        print_line(as_json(message) if is_json else as_line(message))

    with exit_on_error():
        count = with_session(url, lambda session: parked.browse_parked(session, show))
        sys.stdout.flush()
        print_line(f"{_messages(count)} in crew.parked", err=True)


@command.command("show")
@click.argument("id")
@click.option("--raw", is_flag=True, help="print only the body, byte for byte as it was sent")
@url_option
def show_message(*, id: str, raw: bool, url: str | None) -> None:
    """Print everything about one message: reason, properties, headers and payload."""
    found: list[ParkedMessage] = []

    def look(message: ParkedMessage) -> bool:
        if message.id == id:
            found.append(message)
        return bool(found)

    with exit_on_error():
        with_session(url, lambda session: parked.browse_parked(session, look))
        _check_found(set() if found else {id})
        if raw:
            print_bytes(found[0].body.data)
        else:
            print_line(as_page(found[0]))
        sys.stdout.flush()


@command.command("replay")
@_ids_argument
@_task_option
@_all_option
@yes_option
@click.option(
    "--expiration",
    type=DurationType(),
    help="how long they may wait for a worker, then they expire: seconds, or text like 10m",
)
@click.option(
    "--unsigned",
    is_flag=True,
    help="also sign and send messages that were refused because they had no valid signature: check them first",
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

    --all shows the number of messages and asks for confirmation.

    A message stays in crew.parked until the broker has confirmed it in the queue of its task. It also stays if that
    queue does not exist or is full. The result of the task is discarded: its caller got an error when the message was
    parked.
    """
    selection = _selection(ids, everything, task=task)
    with exit_on_error():
        if everything and not yes:
            count = with_session(url, lambda session: parked.count(session, selection))
            confirm(f"Send {_messages(count)} to their tasks again?")
        done = with_session(
            url, lambda session: parked.replay(session, selection, expiration=expiration, trusts_unsigned=unsigned)
        )
        print_line(f"{_messages(done.count)} sent to their tasks again")
        _check(done)


@command.command("purge")
@_ids_argument
@_task_option
@click.option(
    "--older-than",
    type=DurationType(may_be_zero=True, most=math.inf),
    help="only messages parked longer ago than this: seconds, or text like 15m, 7d",
)
@_all_option
@yes_option
@url_option
def purge_messages(
    *, ids: tuple[str, ...], task: str | None, older_than: float | None, everything: bool, yes: bool, url: str | None
) -> None:
    """Delete messages permanently."""
    before = None if older_than is None else time.time() - older_than
    selection = _selection(ids, everything, task=task, before=before)
    with exit_on_error():
        if not yes:
            count = with_session(url, lambda session: parked.count(session, selection))
            confirm(f"Delete {_messages(count)} permanently?")
        done = with_session(url, lambda session: parked.purge(session, selection))
        print_line(f"{_messages(done.count)} deleted")
        _check(done)


def _selection(ids: tuple[str, ...], everything: bool, **others: Any) -> Selection:
    """The messages that the command line selects; UsageError if it selects none, or by --all and something else."""
    has_others = any(value is not None for value in others.values())
    if everything == (bool(ids) or has_others):
        options = "IDs, --task or --older-than" if "before" in others else "IDs or --task"
        raise click.UsageError(f"select messages: give {options}; --all selects all of them")
    return Selection(ids=frozenset(ids) or None, **others)


def _check(done: ParkedResult) -> None:
    for id, why in done.left:
        print_error(f"message {id} stays parked: {shown(why)}")
    _check_found(done.missing)
    if done.left:
        sys.exit(ExitStatus.OTHER)


def _check_found(missing: set[str]) -> None:
    if missing:
        raise CrewError(f"no parked message has this id: {shown(', '.join(sorted(missing)))}")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
