"""Every error of a command line is one line on stderr and an exit status, never a traceback."""

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from crew import command_line
from crew.cli import main
from crew.command_line import Command, Count, Group, did_you_mean
from crew.duration import EXAMPLES
from crew.worker.options import worker_options

NOBODY = 65_534  # a user id that owns no files
CREW = f"{sys.executable} -m crew"


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell command that begins with crew."""
    command = ["/bin/bash", "-c", script.replace("crew ", f"{CREW} ", 1)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("stream", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_standard_stream_works_like_dev_null(stream: str, tmp_path: Path) -> None:
    done = shell(f"crew --version {stream}", tmp_path)

    assert done.returncode == 0
    assert done.stderr == ""


def test_no_file_gets_the_descriptor_of_a_closed_output(tmp_path: Path) -> None:
    script = (
        "import os, click\n"
        "from crew.command_line import Command\n"
        "@click.command(cls=Command)\n"
        "def command():\n"
        "    file = open('file', 'w')\n"
        "    print('printed', flush=True)\n"
        "    os.write(1, b'written')\n"
        "command()\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec {sys.executable} -c "$0" >&-', script], cwd=tmp_path, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("arguments", ["--version", "--help", "broker status --folder nowhere"])
def test_a_full_disk_is_one_line_on_stderr(arguments: str, tmp_path: Path) -> None:
    done = shell(f"crew {arguments} >/dev/full", tmp_path)

    assert (done.returncode, done.stderr) == (74, "crew: cannot write the output: no space left on device\n")
    assert shell(f"crew {arguments} >/dev/full 2>/dev/full", tmp_path).returncode == 74


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    done = shell("crew --help | true; echo ${PIPESTATUS[0]}", tmp_path)

    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("command", ["broker start", "dev worker.py"])
def test_a_file_where_the_folder_must_be_is_one_line_on_stderr(command: str, tmp_path: Path) -> None:
    (tmp_path / ".crew").touch()
    (tmp_path / "worker.py").touch()
    done = shell(f"crew {command}", tmp_path)

    assert done.returncode == 74
    assert done.stderr == f"crew: cannot use {tmp_path}/.crew: not a directory\n"


@pytest.mark.parametrize("command", ["broker start", "dev worker.py"])
def test_a_folder_without_write_permission_is_one_line_on_stderr(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "read_only"
    folder.mkdir()
    (folder / "worker.py").touch()
    folder.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.is_relative_to(temporary := Path(tempfile.gettempdir())) and parent != temporary:
            parent.chmod(0o755)  # pytest creates them for their owner only
    script = (
        "import os, sys\n"
        "from crew.cli import main\n"
        "from crew.cli.broker import command\n"
        "from crew.cli.dev import command\n"
        f"os.getuid() or os.setuid({NOBODY})\n"  # root has write permission everywhere
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split()], cwd=folder, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (
        74,
        f"crew: cannot use {folder}/.crew: permission denied; run crew in a folder where you have write permission\n",
    )


def test_a_bug_is_not_hidden() -> None:
    @click.command(cls=Command)
    def command() -> None:
        raise FileNotFoundError("what a bug raises")

    assert isinstance(CliRunner().invoke(command).exception, FileNotFoundError)


# --- error texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cal"], "No such command 'cal'. Did you mean 'call'?"),
        (["jobs", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["parked", "reply"], "No such command 'reply'. Did you mean 'replay'?"),
        (["broker", "restart"], "No such command 'restart'. Did you mean 'start' or 'status'?"),
        (["queues", "x"], "No such command 'x'."),
        (["call"], "Missing argument 'TASK'."),
        (
            ["call", "t", "--timeout", "abc"],
            f"Invalid value for '--timeout': it must be a number of seconds, or text like {EXAMPLES}, not 'abc'",
        ),
        (
            ["call", "t", "--priority", "256"],
            "Invalid value for '--priority': it must be a whole number from 0 to 255, not '256'",
        ),
        (
            ["jobs", "list", "--limit", "0"],
            "Invalid value for '--limit': it must be a whole number, 1 or more, not '0'",
        ),
        (
            ["worker", "x.py", "--grace", "soon"],
            f"Invalid value for '--grace': it must be a number of seconds, or text like {EXAMPLES}, not 'soon'",
        ),
        (
            ["worker", "x.py", "--drain", "nan"],
            f"Invalid value for '--drain': it must be a number of seconds, or text like {EXAMPLES}, not 'nan'",
        ),
        (
            ["worker", "x.py", "--processes", "1.5"],
            "Invalid value for '--processes' / '--forks': it must be a whole number, 1 or more, not '1.5'",
        ),
    ],
)
def test_wrong_usage_is_explained_with_the_prefix_of_all_errors(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == f"crew: {message}"


def test_the_flags_of_a_worker_script_are_refused_in_the_same_way() -> None:
    @click.command(cls=Command)
    @worker_options
    def script(**flags: object) -> None: ...

    done = CliRunner().invoke(script, ["--threads", "many"])

    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        "crew: Invalid value for '--threads': it must be a whole number, 1 or more, not 'many'"
    )


def test_errors_about_numbers_never_show_the_names_of_clicks_types() -> None:
    """No option has one of click's number types, whose errors read "'abc' is not a valid float range"."""
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        for parameter in command.params:
            assert not isinstance(parameter.type, click.IntRange | click.FloatRange) or isinstance(
                parameter.type, Count
            ), f"{command.name} {parameter.name}"
        if isinstance(command, click.Group):
            assert isinstance(command, Group)
            found = [command.get_command(click.Context(command), name) for name in command.list_commands(None)]  # type: ignore[arg-type]
            waiting += [one for one in found if one]


def test_only_similar_words_are_suggested() -> None:
    assert did_you_mean("reszie", ["resize", "rotate", "crop"]) == " Did you mean 'resize'?"
    assert did_you_mean("xyz", ["resize", "rotate"]) == ""


def test_a_declined_confirmation_prints_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(cls=Command)
    def command() -> None:
        raise click.Abort

    done = CliRunner().invoke(command)
    assert (done.exit_code, done.stderr) == (1, "crew: aborted\n")
    assert command_line.EXIT_IO == 74
