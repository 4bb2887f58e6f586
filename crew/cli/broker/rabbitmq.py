"""Finds the programs of the RabbitMQ that is installed on this machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from crew.errors import SettingsError
from crew.settings import rabbitmq_folder

# Debian's wrappers in /usr/sbin require root or rabbitmq and drop the environment, so the real programs come first.
FOLDERS: Final = (
    Path("/usr/lib/rabbitmq/bin"),  # Debian, Fedora
    Path("/opt/homebrew/opt/rabbitmq/sbin"),  # Homebrew on Apple silicon
    Path("/usr/local/opt/rabbitmq/sbin"),  # Homebrew on Intel
    Path("/opt/rabbitmq/sbin"),  # the generic archive, as in the container image
)
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOW_TO_INSTALL: Final = (
    "RabbitMQ is not installed: run `apt-get install rabbitmq-server` as root (Debian, Ubuntu) or "
    "`brew install rabbitmq` (macOS), or set CREW_AMQP_URL to the URL of a running broker; "
    "`crew dev --memory WORKER` runs without RabbitMQ"
)


def program(name: str, *, folders: Sequence[Path] = FOLDERS) -> Path:
    """Path of RabbitMQ's program `name`: "rabbitmq-server" or "rabbitmqctl", in `CREW_RABBITMQ` if that is set.

    Args:
        folders: searched before the PATH.

    Raises:
        SettingsError: the program is not installed.
    """
    if chosen := rabbitmq_folder():
        if (chosen / name).exists():
            return chosen / name
        raise SettingsError(
            f"CREW_RABBITMQ is {str(chosen)!r}, but there is no {name}: set it to the folder of RabbitMQ's programs"
        )
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    if found := shutil.which(name):
        return Path(found)
    raise SettingsError(HOW_TO_INSTALL)


def search_path() -> str:
    """PATH for RabbitMQ's scripts: the folder of `erl`, and the system's folders."""
    erl = shutil.which("erl")
    return f"{Path(erl).parent}:{SYSTEM_PATH}" if erl else SYSTEM_PATH
