"""examples/web_frameworks: Django and FastAPI in the process of the test, Twisted in its own; all share one worker."""

import importlib
import importlib.util
import json
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.pages import HOW_TO, write_code
from tests.support.processes import Processes, running
from tests.support.waiting import eventually
from tests.support.web import Web

EXAMPLE = Path(__file__).parents[2] / "examples" / "web_frameworks"
SOON = 10.0  # seconds, on a busy machine
UNKNOWN = uuid.UUID(int=7)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, vhost_url: Callable[[], str]) -> dict[str, str]:
    """The settings of the sites and of their worker."""
    folder = tmp_path_factory.mktemp("store")
    return {"CREW_AMQP_URL": vhost_url(), "CREW_DATABASE": f"sqlite:///{folder}/jobs.db"}


@pytest.fixture(scope="module")
def site_processes(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Processes]:
    """Starts the processes of this module; the worker runs."""
    with running(tmp_path_factory.mktemp("site"), environment, preloaded=True) as processes:
        processes.python(EXAMPLE / "worker.py").says("serving 2 tasks")
        yield processes


@pytest.fixture(scope="module")
def example(environment: dict[str, str], site_processes: Processes) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a site by its name, with the settings in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield lambda name: importlib.import_module(f"examples.web_frameworks.{name}")


# --- Django ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def django(example: Callable[[str], ModuleType]) -> Iterator[Any]:
    """Django's client for tests."""
    site = example("django_site")
    importlib.import_module("django").setup()
    yield importlib.import_module("django.test").Client(SERVER_NAME="127.0.0.1")
    site.client.close()


def test_a_view_of_django_calls_a_task(django: Any) -> None:
    response = django.get("/add/?n=1&n=2")
    assert (response.status_code, response.json()) == (200, {"sum": 3.0})


def test_a_view_of_django_submits_a_job_and_another_one_polls_it_to_its_result(django: Any) -> None:
    submitted = django.post("/reports/", {"rows": 3, "title": "sales"}, content_type="application/json")
    assert submitted.status_code == 202
    place = submitted.headers["Location"]
    assert place == f"/reports/{submitted.json()['id']}/"

    eventually(lambda: django.get(place).json()["status"] == "success", timeout=SOON)

    assert django.get(place).json()["result"] == {"rows": 3, "title": "sales"}
    eventually(lambda: django.get(place).json()["progress"] == {"row": 2, "of": 3})  # another site may record it later


def test_a_view_of_django_cancels_a_job(django: Any) -> None:
    place = django.post("/reports/", {"rows": 1000}, content_type="application/json").headers["Location"]
    assert django.delete(place).json()["status"] == "canceled"
    assert "canceled" in django.get(place).json()["error"]


def test_a_job_that_failed_is_polled_with_its_error_and_an_unknown_one_is_not_found(django: Any) -> None:
    place = django.post("/reports/", {"rows": "many"}, content_type="application/json").headers["Location"]
    eventually(lambda: django.get(place).json()["status"] == "error", timeout=SOON)
    assert "ValueError" in django.get(place).json()["error"]
    assert django.get(f"/reports/{UNKNOWN}/").status_code == 404


# --- Flask, as on its page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flask(example: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Flask's client for tests of the application on the page; `example` has set the environment."""
    folder = tmp_path_factory.mktemp("flask")
    write_code(HOW_TO / "call-from-web-frameworks.md", folder)
    specification = importlib.util.spec_from_file_location("flask_app", folder / "flask_app.py")
    assert specification is not None
    assert specification.loader is not None
    site = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(site)
    yield site.app.test_client()
    site.client.close()


def test_the_application_on_the_page_about_flask_calls_submits_and_polls(flask: Any) -> None:
    assert flask.get("/add?n=1&n=2").json == {"sum": 3.0}
    submitted = flask.post("/reports/", json={"rows": 2})
    assert submitted.status_code == 202
    place = f"/reports/{submitted.json['id']}"
    eventually(lambda: flask.get(place).json["status"] == "success", timeout=SOON)
    eventually(lambda: flask.get(place).json["progress"] == {"row": 1, "of": 2})  # another site may record it later
    assert flask.get(f"/reports/{UNKNOWN}").status_code == 404


# --- FastAPI --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fastapi(example: Callable[[str], ModuleType]) -> Iterator[Any]:
    """FastAPI's client for tests, with the application's lifespan around it."""
    app = example("fastapi_app").app
    with importlib.import_module("fastapi.testclient").TestClient(app) as client:
        yield client


def test_a_route_of_fastapi_calls_a_task(fastapi: Any) -> None:
    response = fastapi.get("/add?n=1&n=2")
    assert (response.status_code, response.json()) == (200, {"sum": 3.0})


def test_a_route_of_fastapi_submits_a_job_and_another_one_polls_it_to_its_result(fastapi: Any) -> None:
    submitted = fastapi.post("/reports/", json={"rows": 2, "title": "stock"})
    assert submitted.status_code == 202
    place = submitted.headers["Location"]

    eventually(lambda: fastapi.get(place).json()["status"] == "success", timeout=SOON)

    assert fastapi.get(place).json()["result"] == {"rows": 2, "title": "stock"}
    assert fastapi.get(f"/reports/{UNKNOWN}").status_code == 404


def test_a_route_of_fastapi_cancels_a_job(fastapi: Any) -> None:
    place = fastapi.post("/reports/", json={"rows": 1000}).headers["Location"]
    assert fastapi.delete(place).json() == {"canceled": True}
    assert fastapi.get(place).json()["status"] == "canceled"


# --- Twisted --------------------------------------------------------------------------------------------------------


def test_a_resource_of_twisted_calls_a_task_on_the_asyncio_reactor(site_processes: Processes) -> None:
    site = site_processes.python(EXAMPLE / "twisted_site.py", "0")
    web = Web.of(site)

    response = web.get("/add?n=1&n=2")

    assert (response.status, json.loads(response.text)) == (200, {"sum": 3.0})
    assert site.stop(signal.SIGINT) == 0
    assert "Traceback" not in site.output


# --- jobs in the shell ------------------------------------------------------------------------------------------------


def test_the_shell_shows_the_jobs_of_a_site(django: Any, site_processes: Processes) -> None:
    id = django.post("/reports/", {"rows": 1}, content_type="application/json").json()["id"]
    waited = site_processes.crew("jobs", "wait", id, "--timeout", "10", "--json")
    assert waited.ends(timeout=SOON) == 0, waited
    assert json.loads(waited.output)["result"] == {"rows": 1, "title": "untitled"}, waited
