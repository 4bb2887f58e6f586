"""The pytest plugin, in a pytest of its own: the example of the page, all kinds of async tests, tests that hang."""

import re
from pathlib import Path

import pytest

from tests.support.user_project import run_pytest, write_example

ADD = """
from crew.worker import Task

@Task("add")
def add(req):
    return req["a"] + req["b"]

async def check(crew_client, crew_worker):
    crew_worker(add)
    assert await crew_client.call("add", {"a": 40, "b": 2}) == 42
"""


def test_the_example_of_the_page_runs_without_a_broker(tmp_path: Path) -> None:
    assert write_example(tmp_path) == ["tasks.py", "test_tasks.py"]

    result = run_pytest(tmp_path)

    assert re.search(r"^10 passed in", result.stdout, re.MULTILINE), result.stdout


@pytest.mark.parametrize(
    ("plugin", "mark"),
    [
        ("pytest_asyncio", "pytest.mark.asyncio"),
        ("anyio.pytest_plugin", "pytest.mark.anyio"),
        ("pytest_tornado.plugin", "pytest.mark.gen_test"),
    ],
)
def test_an_async_test_runs_on_the_loop_of_another_plugin(tmp_path: Path, plugin: str, mark: str) -> None:
    pytest.importorskip(plugin)
    (tmp_path / "test_it.py").write_text(
        "import asyncio, pytest\n"
        f"{ADD}\n"
        "@pytest.fixture\n"
        "def anyio_backend():\n    return 'asyncio'\n\n"
        f"@{mark}\n"
        "async def test_add(crew_client, crew_worker):\n"
        "    await check(crew_client, crew_worker)\n\n"
        f"@{mark}\n"
        "async def test_twice(crew_client, crew_worker):\n"
        "    await check(crew_client, crew_worker)\n"
    )

    result = run_pytest(tmp_path, plugins=(plugin,))

    assert re.search(r"^2 passed", result.stdout, re.MULTILINE), result.stdout


def test_a_test_that_waits_for_ever_fails_with_the_stacks(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import asyncio\n\n"
        "async def waits_for_godot():\n"
        "    await asyncio.Event().wait()\n\n"
        "async def test_it(crew_client):\n"
        "    await crew_client.connect()\n"
        "    await waits_for_godot()\n"
    )

    result = run_pytest(tmp_path, "--crew-hang-after=1.5")

    assert re.search(r"^1 failed", result.stdout, re.MULTILINE), result.stdout
    assert "crew.testing.clock.contract.Hang: the test runs for" in result.stdout
    assert "in waits_for_godot" in result.stdout


def test_a_task_that_is_called_directly_has_a_context(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from crew.worker import Task, context\n\n"
        "@Task('render')\n"
        "def render(req):\n"
        "    context.progress(1)\n"
        "    context.headers['pages'] = '1'\n"
        "    with context.shield():\n"
        "        pass\n"
        "    return context.attempt, context.job, context.remaining, context.canceled.is_set()\n\n"
        "def test_it():\n"
        "    assert render({}) == (1, None, None, False)\n\n"
        "def test_what_it_did(crew_context):\n"
        "    crew_context.cancel()\n"
        "    assert render({}) == (1, None, None, True)\n"
        "    assert crew_context.progress == [1]\n"
        "    assert crew_context.headers == {'pages': '1'}\n"
    )

    result = run_pytest(tmp_path)

    assert re.search(r"^2 passed", result.stdout, re.MULTILINE), result.stdout


def test_the_plugin_alone_loads_little(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert not {'pika', 'tornado', 'sqlalchemy'} & set(sys.modules)\n"
    )

    result = run_pytest(tmp_path)

    assert re.search(r"^1 passed", result.stdout, re.MULTILINE), result.stdout


def test_a_mistake_in_a_fixtures_argument_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(crew_worker):\n    crew_worker('absent')\n")

    result = run_pytest(tmp_path)

    assert "ValueError: 'absent' is no task: pass a function below @Task" in result.stdout
