"""`crew tasks show`: the tasks of a script, without serving them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from __future__ import annotations
import dataclasses
import datetime
from crew.worker import Task, run

@dataclasses.dataclass
class Image:
    path: str
    taken: datetime.datetime

@Task("resize")
def resize(image: Image, width: int = 640, *, tags: set[str] | None = None) -> Image:
    return image

@Task("plain")
def plain(req):
    return req

@Task("any")
def anything(*args, **kwargs): ...

"""
GUARDED = SCRIPT + 'if __name__ == "__main__":\n    run(counter=0)\n'


def shown(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `crew tasks show` prints about a script with this text."""
    (folder / "worker.py").write_text(script)
    command = [sys.executable, "-m", "crew", "tasks", "show", "worker.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("script", [SCRIPT, GUARDED, SCRIPT + "run()"], ids=["without run", "guarded", "with run"])
def test_the_tasks_of_a_script_are_listed_with_their_parameters(tmp_path: Path, script: str) -> None:
    done = shown(tmp_path, script)
    assert done.stderr == ""
    assert done.returncode == 0
    lines = [line.partition("  ")[0] for line in done.stdout.splitlines()]
    assert lines == [
        "any(*args, **kwargs)",
        "plain(req)",
        "resize(image: Image, width: int = 640, *, tags: set[str] | None = None) -> Image",
    ]
    assert f"({tmp_path.resolve()}/worker.py:" in done.stdout


def test_one_task_is_shown_with_its_json_schema(tmp_path: Path) -> None:
    done = shown(tmp_path, GUARDED, "resize", "--json")
    task = json.loads(done.stdout)
    assert task["task"] == "resize"
    assert task["arguments"]["required"] == ["image"]
    assert task["arguments"]["additionalProperties"] is False
    assert task["arguments"]["properties"]["width"] == {"type": "integer", "default": 640}
    assert task["arguments"]["properties"]["image"] == task["result"] == {"$ref": "#/$defs/Image"}
    assert task["$defs"]["Image"]["properties"]["taken"] == {"type": "string"}
    assert "payload" not in task
    assert json.loads(shown(tmp_path, GUARDED, "plain", "--json").stdout)["payload"] == "req"


@pytest.mark.parametrize(
    ("script", "arguments", "sentence", "status"),
    [
        (SCRIPT, ["resise"], "crew: worker.py has no task 'resise'. Did you mean 'resize'?", 2),
        ("", [], 'crew: there is no task to serve: write @Task("name") above a function', 2),
        (SCRIPT.replace("path: str", "path: complex"), [], "crew: task 'resize': the annotation of parameter", 2),
        (GUARDED.replace("path: str", "path: complex"), [], "crew: task 'resize': the annotation of parameter", 78),
        ("1 / 0", [], "ZeroDivisionError: division by zero\ncrew: worker.py failed with the error above", 2),
    ],
    ids=["unknown task", "no task", "annotation", "annotation, with run", "error"],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    tmp_path: Path, script: str, arguments: list[str], sentence: str, status: int
) -> None:
    done = shown(tmp_path, script, *arguments)
    assert sentence in done.stderr
    assert done.returncode == status
    assert done.stdout == ""
