"""Finding the RabbitMQ that is installed on this machine."""

import shutil
from pathlib import Path

import pytest

from crew import SettingsError
from crew.cli.broker import rabbitmq


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for RabbitMQ; nothing is on the PATH."""
    monkeypatch.delenv("CREW_RABBITMQ", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return tmp_path


def test_an_error_about_a_missing_rabbitmq_says_how_to_install_it(folder: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"apt-get install rabbitmq-server.*brew install rabbitmq.*CREW_AMQP_URL.*crew dev --memory"
    ):
        rabbitmq.program("rabbitmq-server", folders=[folder])


def test_the_real_program_comes_before_the_wrapper_on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "rabbitmq-server").touch()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/sbin/{name}")

    assert rabbitmq.program("rabbitmq-server", folders=[folder]) == folder / "rabbitmq-server"
    assert rabbitmq.program("rabbitmqctl", folders=[folder]) == Path("/usr/sbin/rabbitmqctl")


def test_another_rabbitmq_can_be_chosen_by_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "rabbitmqctl").touch()
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "rabbitmq-server").touch()
    monkeypatch.setenv("CREW_RABBITMQ", str(chosen))

    assert rabbitmq.program("rabbitmq-server", folders=[folder]) == chosen / "rabbitmq-server"
    with pytest.raises(
        SettingsError, match=r"CREW_RABBITMQ is '.*chosen', but there is no rabbitmqctl: set it to the folder"
    ):
        rabbitmq.program("rabbitmqctl", folders=[folder])


def test_erlang_is_found_where_the_caller_finds_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/erlang/bin/{name}")

    assert rabbitmq.search_path().startswith("/opt/erlang/bin:/usr/local/sbin:")
