"""The folder `.crew`, in which crew keeps what belongs to a working directory: its broker, and the records of its jobs.

It holds passwords and payloads, so that only its owner can read it, and git ignores it.

Nothing in it is trusted that somebody else could have put there, in a working directory that several users share: a
folder or a file below it is used only if it belongs to the user of this process and is no symbolic link. Otherwise
another user's cookie or password would be taken for ours, and a link would have us write into a file elsewhere. Each
step of a path is opened in the folder that was checked before it (openat(2), O_NOFOLLOW), so that nothing can be put in
its place in between.
"""

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from crew.errors import SettingsError

FOLDER: Final = Path(".crew")
_IGNORE_ALL: Final = "*\n"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OF_OTHERS: Final = 0o077
_OF_EVERYBODY: Final = 0o007
_ANY_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # also one that is not listed
_LINK: Final = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)  # of O_NOFOLLOW, alone and with O_DIRECTORY; BSD


def is_private(path: Path) -> bool:
    """Whether `path` is in a folder `.crew`."""
    return FOLDER.name in path.parts


def make_folder(path: Path) -> None:
    """Make the folder `path`, where it is missing; raises OSError where that cannot be.

    A folder that is made can be used by its owner only, whatever the umask. A folder `.crew` on the way there becomes
    private, if it is not, and gets a `.gitignore`.

    Raises:
        SettingsError: a folder in `.crew` belongs to another user, or is a link.
    """
    path = path.absolute()
    if is_private(path):
        with opened(path, make=True):
            return
    for folder in reversed([one for one in (path, *path.parents) if not one.exists()]):
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)


@contextmanager
def opened(folder: Path, *, root: Path | None = None, make: bool = False) -> Iterator[int]:
    """A descriptor of the private folder `folder`, for `os.open(..., dir_fd=...)`.

    Args:
        root: from where on each folder has to be ours; default: the innermost `.crew` in the path.
        make: make the folders that are missing, and take the rights of others on those that are there.

    Raises:
        FileNotFoundError: it is missing.
        SettingsError: a folder belongs to another user, or is a link.
    """
    folder = folder.absolute()
    root = _root(folder) if root is None else root.absolute()
    if make:
        root.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root.parent, _ANY_FOLDER)
    at = root.parent
    try:
        for name in folder.relative_to(root.parent).parts:
            at /= name
            inner = _open_folder(at, descriptor, make=make)
            os.close(descriptor)
            descriptor = inner
            if make and name == FOLDER.name:
                _ignore(at / ".gitignore", descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(path: Path, folder: int, flags: int, mode: int = _FILE_MODE) -> int:
    """A descriptor of the file `path`, opened by its name in `folder`, which is a descriptor, too.

    Args:
        flags: of `os.open`; a link is never followed.
        mode: of a file that is made; with O_EXCL whatever the umask.

    Raises:
        OSError: as `os.open`.
        SettingsError: it belongs to another user, or is a link, a pipe or the like.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # which keeps a pipe from blocking, and is nothing to a file
    try:
        descriptor = os.open(path.name, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK or _is_link(path.name, folder):
            raise _linked(path) from None
        _check_denied(error, path, folder)
        if error.errno == errno.ENXIO:
            raise _irregular(path) from None
        error.filename = str(path)  # not its name alone
        raise
    try:
        found = os.fstat(descriptor)
        _check(found, path)
        if not stat.S_ISREG(found.st_mode):
            raise _irregular(path)
        if flags & os.O_EXCL and stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_text(path: Path, *, root: Path | None = None) -> str:
    """What the private file `path` holds.

    Raises:
        FileNotFoundError: it is missing.
        SettingsError: the file, or a folder from `root` on, belongs to another user or is a link.
    """
    path = path.absolute()
    with opened(path.parent, root=root) as folder:
        descriptor = open_file(path, folder, os.O_RDONLY)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            return file.read()


def write_text(path: Path, text: str, *, root: Path | None = None, mode: int = _FILE_MODE) -> None:
    """Replace the private file `path` whole: a reader sees the old text or the new one, also after a crash.

    Raises:
        SettingsError: a folder from `root` on belongs to another user or is a link.
    """
    path = path.absolute()
    new = path.with_name(path.name + ".new")
    with opened(path.parent, root=root) as folder:
        with suppress(FileNotFoundError):
            os.unlink(new.name, dir_fd=folder)
        descriptor = open_file(new, folder, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(new.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)


def make_file(path: Path) -> None:
    """Make the file `path`, empty, where it is missing, for its owner only whatever the umask; raises OSError.

    Raises:
        SettingsError: it is in `.crew`, and belongs to another user or is a link.
    """
    path = path.absolute()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        if is_private(path):
            with opened(path.parent) as folder:
                os.close(open_file(path, folder, flags))
        else:
            descriptor = os.open(path, flags, _FILE_MODE)
            os.fchmod(descriptor, _FILE_MODE)
            os.close(descriptor)
    if is_private(path):
        restrict(path)


def restrict(path: Path) -> None:
    """Take the rights of others on the file `path`, if there is one.

    The file is not opened: closing it would end every lock that this process has on it, those of SQLite among them
    (https://www.sqlite.org/howtocorrupt.html, 2.2). No other user can exchange it in a folder that is ours alone.

    In `.crew` they lose all. Elsewhere a file that is not open to everybody stays as it is: its owner may have chosen
    to share it with a group.

    Raises:
        SettingsError: it is in `.crew`, and belongs to another user or is a link.
    """
    path = path.absolute()
    if not is_private(path):
        with suppress(FileNotFoundError, PermissionError):
            if path.stat().st_mode & _OF_EVERYBODY:
                path.chmod(_FILE_MODE)
        return
    with suppress(FileNotFoundError), opened(path.parent) as folder:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        _check(found, path)
        if not stat.S_ISREG(found.st_mode):
            raise _irregular(path)
        if (mode := stat.S_IMODE(found.st_mode)) & _OF_OTHERS:
            os.chmod(path.name, mode & ~_OF_OTHERS, dir_fd=folder)  # of a descriptor


def check_entries(folder: Path, *, root: Path | None = None) -> None:
    """Raise SettingsError where something in the private folder `folder` belongs to another user, or is a link."""
    folder = folder.absolute()
    with opened(folder, root=root) as descriptor:
        for name in sorted(os.listdir(descriptor)):  # noqa: PTH208  # of a descriptor
            with suppress(FileNotFoundError):
                _check(os.stat(name, dir_fd=descriptor, follow_symlinks=False), folder / name)


def _root(path: Path) -> Path:
    """The innermost `.crew` in `path`."""
    depth = len(path.parts) - path.parts[::-1].index(FOLDER.name)
    return Path(*path.parts[:depth])


def _open_folder(path: Path, parent: int, *, make: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(path.name, _FOLDER_MODE, dir_fd=parent)
        descriptor = os.open(path.name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in _LINK and _is_link(path.name, parent):
            raise _linked(path) from None
        if error.errno == errno.ENOTDIR:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        _check_denied(error, path, parent)
        error.filename = str(path)
        raise
    try:
        found = os.fstat(descriptor)
        _check(found, path)
        if make and (mode := stat.S_IMODE(found.st_mode)) & _OF_OTHERS:
            os.fchmod(descriptor, mode & ~_OF_OTHERS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _check_denied(error: OSError, path: Path, folder: int) -> None:
    """Raise SettingsError where `path` was denied because it belongs to another user; it may also be missing."""
    if error.errno == errno.EACCES:
        with suppress(FileNotFoundError):
            _check(os.stat(path.name, dir_fd=folder, follow_symlinks=False), path)


def _check(found: os.stat_result, path: Path) -> None:
    """Raise SettingsError where it is a link, or not ours."""
    if stat.S_ISLNK(found.st_mode):
        raise _linked(path)
    if found.st_uid != os.geteuid():
        raise SettingsError(
            f"{path} belongs to {_user(found.st_uid)}, and this process runs as {_user(os.geteuid())}: it is not used, "
            "as it may have been put there on purpose; run crew as that user, or in a folder without it"
        )


def _linked(path: Path) -> SettingsError:
    return SettingsError(
        f"{path} is a symbolic link: it is not followed, as it may have been put there on purpose; replace it by what "
        "it points to, or delete it"
    )


def _irregular(path: Path) -> SettingsError:
    return SettingsError(f"{path} is no regular file, and not used: crew did not make it; delete it")


def _user(id: int) -> str:
    try:
        return f"user {pwd.getpwuid(id).pw_name}"
    except KeyError:
        return f"user {id}"


def _ignore(path: Path, folder: int) -> None:
    """Have git ignore all of it, unless somebody has said otherwise."""
    with suppress(OSError, SettingsError):
        descriptor = open_file(path, folder, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, _FILE_MODE)
            if os.fstat(descriptor).st_size == 0:
                file.write(_IGNORE_ALL)
