"""The public API: exactly the documented names can be imported."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import crew
import crew.client
import crew.gateway
import crew.testing
import crew.worker
from tests.support.pages import HOW_TO, README, blocks

ROOT = Path(__file__).resolve().parents[2]

# The error tree, the interrupt, the client and the release.
PROMISED = {
    "Client",
    "CrewError",
    "TaskError",
    "TimeoutError",
    "ExpirationError",
    "TaskFailed",
    "InvalidArguments",
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


PAGES = [README, *sorted(HOW_TO.glob("*.md"))]


def imports_of(page: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from crew... import ...` in the Python blocks of a Markdown page."""
    found = []
    for block in blocks(page, "python"):
        for module, names in re.findall(r"^from (crew[\w.]*) import ([\w, ]+)", block, re.MULTILINE):
            found += [(module, name.strip()) for name in names.split(",")]
    return found


def run_python(code: str) -> str:
    """The output of `code` in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_crew_exports_exactly_the_promised_names() -> None:
    assert set(crew.__all__) == PROMISED
    assert len(crew.__all__) == len(set(crew.__all__))


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_promised_name_can_be_imported(name: str) -> None:
    assert getattr(crew, name) is not None


def test_every_error_is_exported() -> None:
    from crew import errors

    public = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert public <= set(crew.__all__)


def test_crew_worker_exports_what_a_worker_script_needs() -> None:
    assert set(crew.worker.__all__) == {
        "HandlerClass",
        "Task",
        "context",
        "on_process_start",
        "on_process_stop",
        "run",
    }


def test_types_of_a_clients_values_can_be_imported() -> None:
    assert set(crew.client.__all__) == {
        "Client",
        "Event",
        "Parallel",
        "PendingCall",
        "Scope",
        "Subscription",
        "TaskRef",
    }


def test_crew_gateway_exports_what_a_tornado_application_needs() -> None:
    assert set(crew.gateway.__all__) == {"AbandonMixin", "CallHandler", "cancel_when_abandoned", "routes", "serve"}


def test_crew_testing_exports_what_a_test_needs_beside_the_fixtures() -> None:
    assert set(crew.testing.__all__) == {"Hang", "Kit"}
    assert all(getattr(crew.testing, name) is not None for name in crew.testing.__all__)


def test_every_import_in_the_readme_and_on_the_how_to_pages_works() -> None:
    found = [one for page in PAGES for one in imports_of(page)]
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
        crew.Cleint  # noqa: B018  # the access is the test


def test_importing_crew_for_its_errors_does_not_load_the_amqp_stack() -> None:
    assert run_python("import crew, sys; print('pika' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("missing", ["tornado", "aiohttp"])
def test_a_worker_can_be_imported_without_optional_packages(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
import crew.worker, crew.client, crew.worker.command, crew.protocol.http_job.request
print(crew.worker.Task.__name__)
"""
    assert run_python(code).strip() == "Task"


def test_an_error_of_a_worker_without_aiohttp_names_the_missing_extra() -> None:
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
    assert run_python(code) == 'crew: --http needs aiohttp and aiodns; install them: pip install "crew[http]"\n78\n'


@pytest.mark.parametrize("missing", ["tornado", "prometheus_client"])
def test_an_error_of_the_gateway_names_the_missing_package(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
try:
    import crew.gateway
except ImportError as error:
    print(error, error.__suppress_context__)
"""
    assert run_python(code).strip() == f'crew.gateway needs {missing}: pip install "crew[gateway]" True'


def test_an_error_of_a_client_whose_store_lacks_its_packages_names_the_missing_extra() -> None:
    code = """
import sys
sys.modules["sqlalchemy"] = None
import crew
try:
    crew.Client(store="sqlite:///jobs.db")
except crew.SettingsError as error:
    print(error)
"""
    assert run_python(code).strip() == 'crew.jobs needs sqlalchemy: pip install "crew[jobs]"'


@pytest.mark.parametrize("command", [["jobs", "list"], ["submit", "t"], ["gateway"]])
def test_a_command_without_its_packages_is_wrong_usage_and_names_the_missing_extra(
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
    assert run_python(code) == 'crew: crew.jobs needs sqlalchemy: pip install "crew[jobs]"\n2\n'
