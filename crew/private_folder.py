"""The folder `.crew`, in which crew keeps what belongs to a working directory: its broker, and the records of its jobs.

It holds passwords and payloads, so that only its owner can read it, and git ignores it.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FOLDER: Final = Path(".crew")
_IGNORE_ALL: Final = "*\n"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


def is_private(path: Path) -> bool:
    """Whether `path` is in a folder `.crew`."""
    return FOLDER.name in path.parts


def make_folder(path: Path) -> None:
    """Make the folder `path`, where it is missing; raises OSError where that cannot be.

    A folder `.crew` on the way there is made private, and gets a `.gitignore`.
    """
    path = path.absolute()
    if not is_private(path):
        path.mkdir(parents=True, exist_ok=True)
        return
    depth = len(path.parts) - path.parts[::-1].index(FOLDER.name)  # the innermost
    private = Path(*path.parts[:depth])
    private.parent.mkdir(parents=True, exist_ok=True)
    for folder in [private, *(Path(*path.parts[:end]) for end in range(depth + 1, len(path.parts) + 1))]:
        try:
            folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        _restrict(folder, _FOLDER_MODE)
    with suppress(OSError):  # the folder belongs to somebody else
        _ignore(private / ".gitignore")


def make_file(path: Path) -> None:
    """Make the file `path`, empty, where it is missing, and readable for its owner only; raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, _FILE_MODE))
    _restrict(path, _FILE_MODE)


def _ignore(file: Path) -> None:
    make_file(file)
    if file.stat().st_size == 0:  # else it is what somebody has made of it
        file.write_text(_IGNORE_ALL)


def _restrict(path: Path, mode: int) -> None:
    """Take rights from a `path` that an older crew has made; its owner alone can."""
    with suppress(PermissionError):
        if path.stat().st_mode & 0o777 & ~mode:
            path.chmod(mode)
