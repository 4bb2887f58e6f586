"""Loads the tasks of a worker script without serving them."""

import os
import sys

from crew import settings
from crew.cli import source
from crew.command_line import print_error, print_line
from crew.errors import SettingsError
from crew.worker.supervisor import reload
from crew.worker.task import registry


def load(name: str) -> None:
    """Run a file or module as `crew worker` does, so that its tasks are in the registry.

    `run()` in it checks the tasks, and serves nothing.

    Raises:
        SettingsError: the file or module does not exist, or a task cannot be served.
        SystemExit: its code failed; the reason is printed.
    """
    os.environ.update(settings.environment_for_reload(reload.TRY))
    code = source.find(name)
    try:
        code.run([])
    except SystemExit as exit:
        if exit.code not in (reload.CAN_BE_SERVED, 0, None):
            raise  # the reason is printed
    except SettingsError:
        raise
    except Exception as error:
        print_line(code.traceback_of(error), err=True)
        print_error(f"{name} failed with the error above")
        sys.exit(2)
    finally:
        settings.reload_state()
    registry.check()
