"""What can be imported is what we say can be imported."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import crew
import crew.client
import crew.gateway
import crew.worker

ROOT = Path(__file__).resolve().parents[2]

# The error tree, the interrupt, the client and the release.
PROMISED = {
    "Client",
    "CrewError",
    "TaskError",
    "TimeoutError",
    "ExpirationError",
    "TaskFailed",
    "UnknownTask",
    "DuplicateCallId",
    "Canceled",
    "WorkerLost",
    "MessageRefused",
    "Overloaded",
    "UnknownJob",
    "KeyReused",
    "ConnectionError",
    "SerializationError",
    "TooLarge",
    "SettingsError",
    "Interrupt",
    "__version__",
}


def imports_of(page: str) -> list[tuple[str, str]]:
    """(module, name) of every `from crew... import ...` in the Python blocks of a Markdown page."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        for module, names in re.findall(r"^from (crew[\w.]*) import ([\w, ]+)", block, re.MULTILINE):
            found += [(module, name.strip()) for name in names.split(",")]
    return found


def run_python(code: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_crew_offers_exactly_what_is_promised() -> None:
    assert set(crew.__all__) == PROMISED
    assert len(crew.__all__) == len(set(crew.__all__))


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_promised_name_can_be_imported(name: str) -> None:
    assert getattr(crew, name) is not None


def test_no_error_is_forgotten() -> None:
    from crew import errors

    public = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert public <= set(crew.__all__)


def test_a_worker_script_finds_what_it_needs_in_one_place() -> None:
    assert set(crew.worker.__all__) == {
        "HandlerClass",
        "Task",
        "context",
        "on_process_start",
        "on_process_stop",
        "run",
    }


def test_what_a_client_hands_out_can_be_named_in_annotations() -> None:
    assert set(crew.client.__all__) == {"Client", "Event", "Parallel", "PendingCall", "Scope", "Subscription"}


def test_a_tornado_application_finds_what_it_needs_in_one_place() -> None:
    assert set(crew.gateway.__all__) == {"AbandonMixin", "CallHandler", "cancel_when_abandoned", "routes", "serve"}


def test_every_import_in_the_readme_works() -> None:
    found = imports_of("README.md")
    assert ("crew", "Client") in found
    assert ("crew.worker", "Task") in found
    assert ("crew.gateway", "AbandonMixin") in found
    assert ("crew.gateway", "routes") in found
    for module, name in found:
        assert hasattr(importlib.import_module(module), name), f"from {module} import {name}"


def test_every_error_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(\w+(?:Error|Failed|Task|Lost|Overloaded|Canceled))`", (ROOT / "README.md").read_text()))
    assert "ExpirationError" in named
    assert named <= set(crew.__all__)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cleint"):
        crew.Cleint  # noqa: B018  # to look is the test


def test_importing_crew_for_its_errors_does_not_load_the_amqp_stack() -> None:
    assert run_python("import crew, sys; print('pika' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("missing", ["tornado", "aiohttp"])
def test_a_worker_can_be_imported_where_it_is_not_installed(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
import crew.worker, crew.client, crew.worker.run, crew.protocol.http_job.request
print(crew.worker.Task.__name__)
"""
    assert run_python(code).strip() == "Task"


def test_a_worker_says_in_one_sentence_that_it_cannot_perform_url_jobs_without_aiohttp() -> None:
    code = """
import sys
sys.modules["aiohttp"] = None
sys.argv = ["crew", "worker", "--http"]
sys.stderr = sys.stdout
from crew.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    assert run_python(code) == 'crew: a worker with --http needs aiohttp and aiodns: pip install "crew[http]"\n78\n'


@pytest.mark.parametrize("missing", ["tornado", "prometheus_client"])
def test_the_gateway_says_in_one_sentence_what_is_not_installed(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
try:
    import crew.gateway
except ImportError as error:
    print(error, error.__suppress_context__)
"""
    assert run_python(code).strip() == f'crew.gateway needs {missing}: pip install "crew[gateway]" True'


@pytest.mark.parametrize("command", [["jobs", "list"], ["gateway"]])
def test_a_command_that_needs_more_than_is_installed_says_so_and_ends_with_the_status_of_wrong_usage(
    command: list[str],
) -> None:
    code = f"""
import sys
sys.modules["sqlalchemy"] = None
sys.argv = ["crew", *{command}]
sys.stderr = sys.stdout
from crew.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    assert run_python(code) == 'crew: crew.jobs needs sqlalchemy: pip install "crew[gateway]"\n2\n'
