"""Exit statuses of commands, by the kind of failure."""

import pytest

import crew
from crew.cli.exit_status import ExitStatus, exit_on_error, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (crew.TaskFailed("ValueError", "no"), 1),
        (crew.SettingsError("no URL"), 2),
        (crew.UnknownTask(), 3),
        (crew.ExpirationError(), 4),
        (crew.TimeoutError(), 5),
        (crew.ConnectionError(), 6),
        (crew.Overloaded(), 7),
        (crew.MessageRefused(), 7),
        (crew.Canceled(), 7),
        (crew.WorkerLost(), 7),
        (crew.SerializationError(), 7),
        (crew.CrewError("anything"), 7),
    ],
)
def test_each_kind_of_failure_has_its_status(error: crew.CrewError, status: int) -> None:
    assert status_of(error) == status


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise crew.TaskFailed("ValueError", "no", traceback="Traceback ...")

    assert ended.value.code == ExitStatus.TASK_FAILED
    assert capsys.readouterr() == ("", "crew: ValueError: no\n")


def test_the_remote_traceback_is_printed_with_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), exit_on_error(verbose=True):
        raise crew.TaskFailed("ValueError", "no", traceback="Traceback ...\n")

    assert capsys.readouterr().err == "  | Traceback ...\ncrew: ValueError: no\n"


def test_ctrl_c_prints_no_traceback() -> None:
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise KeyboardInterrupt

    assert ended.value.code == 130


def test_any_other_exception_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        raise ZeroDivisionError
