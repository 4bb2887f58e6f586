"""`crew tasks`: show the tasks of a worker script, with their parameters."""

import inspect
from typing import Any

import click
import msgspec

from crew.cli.exit_status import exit_on_error
from crew.cli.shown import shown
from crew.cli.tasks.script import load
from crew.command_line import Group, did_you_mean, print_json, print_line
from crew.errors import SettingsError
from crew.signatures.schema import schema_of
from crew.signatures.signature import Signature
from crew.worker.task import Task, registry


@click.group("tasks", cls=Group)
def command() -> None:
    """Show the tasks of a worker script, with their parameters."""


@command.command("show")
@click.argument("name", metavar="FILE_OR_MODULE")
@click.argument("task", metavar="[TASK]", required=False)
@click.option("--json", "as_json", is_flag=True, help="print one line of JSON a task, with its JSON Schema")
def show(*, name: str, task: str | None, as_json: bool) -> None:
    """Show the tasks of a worker script, or one of them: parameters, types and result.

    The code is run as `crew worker` runs it, but nothing is served, and no broker is needed.
    """
    with exit_on_error():
        load(name)
        for one in _chosen(name, task):
            if as_json:
                print_json(msgspec.json.encode({"origin": one.origin, **schema_of(one.signature)}))
            else:
                print_line(f"{shown(one.name)}{_text(one.signature)}  {shown(one.origin)}")


def _chosen(name: str, task: str | None) -> list[Task]:
    if task is None:
        return sorted(registry, key=lambda one: one.name)
    found = registry.get(task)
    if found is None:
        near = did_you_mean(task, [one.name for one in registry])
        raise SettingsError(f"{name} has no task {task!r}.{near}" if near else f"{name} has no task {task!r}")
    return [found]


def _text(signature: Signature) -> str:
    """As in Python: "(path: str, width: int = 640) -> Image"."""
    listed = [one.replace(annotation=_annotation(signature.hints.get(one.name, Any))) for one in signature.listed]
    text = str(inspect.Signature(listed, return_annotation=_annotation(signature.result)))
    return text.replace("__main__.", "")  # as the script itself names its classes


def _annotation(kind: Any) -> Any:
    return inspect.Parameter.empty if kind is Any else kind
