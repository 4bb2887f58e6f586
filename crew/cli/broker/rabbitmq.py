"""The RabbitMQ that is installed on this machine: where its programs stand."""

import shutil
from pathlib import Path
from typing import Final

from crew.errors import SettingsError
from crew.settings import rabbitmq_folder

# Debian's wrappers in /usr/sbin insist on root or rabbitmq and drop the environment, so the real programs come first.
FOLDERS: Final = (
    Path("/usr/lib/rabbitmq/bin"),  # Debian, Fedora
    Path("/opt/homebrew/opt/rabbitmq/sbin"),  # Homebrew on Apple silicon
    Path("/usr/local/opt/rabbitmq/sbin"),  # Homebrew on Intel
    Path("/opt/rabbitmq/sbin"),  # the generic archive, as the container image has it
)
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOW_TO_INSTALL: Final = (
    "RabbitMQ is not installed: run `apt-get install rabbitmq-server` as root (Debian, Ubuntu) or "
    "`brew install rabbitmq` (macOS), or let CREW_AMQP_URL name a broker that runs already"
)


def program(name: str) -> Path:
    """Path of RabbitMQ's `name`: "rabbitmq-server" or "rabbitmqctl", in `CREW_RABBITMQ` where that is set.

    Raises:
        SettingsError: it is not installed.
    """
    if chosen := rabbitmq_folder():
        if (chosen / name).exists():
            return chosen / name
        raise SettingsError(f"CREW_RABBITMQ names {str(chosen)!r}, and no {name} is there")
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    if found := shutil.which(name):
        return Path(found)
    raise SettingsError(HOW_TO_INSTALL)


def search_path() -> str:
    """PATH under which RabbitMQ's scripts find `erl` and the shell's own programs, and nothing else decides."""
    erl = shutil.which("erl")
    return f"{Path(erl).parent}:{SYSTEM_PATH}" if erl else SYSTEM_PATH
