"""The example of docs/how-to/test-your-tasks.md with a RabbitMQ: one option, and shorter times."""

import re
from pathlib import Path

from tests.support.user_project import run_pytest, write_example


def test_the_example_of_the_page_runs_with_a_rabbitmq(tmp_path: Path, broker_url: str) -> None:
    write_example(tmp_path)

    result = run_pytest(tmp_path, f"--crew-broker={broker_url}")

    assert re.search(r"^9 passed, 1 skipped", result.stdout, re.MULTILINE), result.stdout
