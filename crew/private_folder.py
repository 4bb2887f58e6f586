"""The folder `.crew`: the private broker and the job records of a working directory.

It contains passwords and payloads. So only its owner can read it, and git ignores it.

Several users may share a working directory. So a folder or file in `.crew` is used only if it belongs to the user of
this process and is not a symbolic link. Otherwise another user could plant a cookie or a password, or a link that makes
crew write to a file elsewhere. Each component of a path is opened relative to the folder that was checked before it
(openat(2), O_NOFOLLOW), so that it cannot be replaced between check and use.
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
_GROUP_AND_OTHERS: Final = 0o077
_OTHERS: Final = 0o007
_ANY_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # without read permission too
_LINK_ERRORS: Final = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)  # O_NOFOLLOW; with O_DIRECTORY; on BSD


def is_private(path: Path) -> bool:
    """Whether `path` is in a folder `.crew`."""
    return FOLDER.name in path.parts


def make_folder(path: Path) -> None:
    """Create the folder `path` if it does not exist.

    Only the owner can use a new folder, whatever the umask. A folder `.crew` in the path becomes private and gets a
    `.gitignore`.

    Raises:
        OSError: the folder cannot be created.
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
        root: the first folder that must belong to this user; default: the innermost `.crew` in the path.
        make: create missing folders, and remove the permissions of group and others on existing ones.

    Raises:
        FileNotFoundError: the folder does not exist.
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
    """Open the file `path` by its name in the descriptor `folder`; returns a descriptor.

    Args:
        flags: as for `os.open`; a link is never followed.
        mode: of a new file; with O_EXCL whatever the umask.

    Raises:
        OSError: as `os.open`.
        SettingsError: the file belongs to another user, or is not a regular file (a link, a pipe ...).
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # O_NONBLOCK: a pipe must not block; files ignore it
    try:
        descriptor = os.open(path.name, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK_ERRORS or _is_link(path.name, folder):
            raise _link_error(path) from None
        _check_denied(error, path, folder)
        if error.errno == errno.ENXIO:
            raise _irregular_error(path) from None
        error.filename = str(path)  # the whole path, not only the name
        raise
    try:
        found = os.fstat(descriptor)
        _check(found, path)
        if not stat.S_ISREG(found.st_mode):
            raise _irregular_error(path)
        if flags & os.O_EXCL and stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_text(path: Path, *, root: Path | None = None) -> str:
    """The text of the private file `path`.

    Raises:
        FileNotFoundError: the file does not exist.
        SettingsError: the file, or a folder from `root` on, belongs to another user or is a link.
    """
    path = path.absolute()
    with opened(path.parent, root=root) as folder:
        descriptor = open_file(path, folder, os.O_RDONLY)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            return file.read()


def write_text(path: Path, text: str, *, root: Path | None = None, mode: int = _FILE_MODE) -> None:
    """Replace the private file `path` atomically: a reader sees the old or the new text, also after a crash.

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
    """Create the empty file `path` if it does not exist, for its owner only, whatever the umask.

    Raises:
        OSError: the file cannot be created.
        SettingsError: the file is in `.crew`, and belongs to another user or is a link.
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
    """Remove the permissions of other users on the file `path`, if it exists.

    The file is not opened: closing it would release every lock that this process has on it, including those of SQLite
    (https://www.sqlite.org/howtocorrupt.html, 2.2). No other user can replace the file in our private folder.

    In `.crew` group and others lose all permissions. Elsewhere a file without permissions for others is not changed:
    its owner may have shared it with a group on purpose.

    Raises:
        SettingsError: the file is in `.crew`, and belongs to another user or is a link.
    """
    path = path.absolute()
    if not is_private(path):
        with suppress(FileNotFoundError, PermissionError):
            if path.stat().st_mode & _OTHERS:
                path.chmod(_FILE_MODE)
        return
    with suppress(FileNotFoundError), opened(path.parent) as folder:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        _check(found, path)
        if not stat.S_ISREG(found.st_mode):
            raise _irregular_error(path)
        if (mode := stat.S_IMODE(found.st_mode)) & _GROUP_AND_OTHERS:
            os.chmod(path.name, mode & ~_GROUP_AND_OTHERS, dir_fd=folder)  # relative to a descriptor


def check_entries(folder: Path, *, root: Path | None = None) -> None:
    """Raise SettingsError if an entry of the private folder `folder` belongs to another user, or is a link."""
    folder = folder.absolute()
    with opened(folder, root=root) as descriptor:
        for name in sorted(os.listdir(descriptor)):  # noqa: PTH208  # pathlib cannot list a descriptor
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
        if error.errno in _LINK_ERRORS and _is_link(path.name, parent):
            raise _link_error(path) from None
        if error.errno == errno.ENOTDIR:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        _check_denied(error, path, parent)
        error.filename = str(path)
        raise
    try:
        found = os.fstat(descriptor)
        _check(found, path)
        if make and (mode := stat.S_IMODE(found.st_mode)) & _GROUP_AND_OTHERS:
            os.fchmod(descriptor, mode & ~_GROUP_AND_OTHERS)
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
    """Raise SettingsError if access to `path` was denied because it belongs to another user."""
    if error.errno == errno.EACCES:
        with suppress(FileNotFoundError):
            _check(os.stat(path.name, dir_fd=folder, follow_symlinks=False), path)


def _check(found: os.stat_result, path: Path) -> None:
    """Raise SettingsError if `path` is a link, or belongs to another user."""
    if stat.S_ISLNK(found.st_mode):
        raise _link_error(path)
    if found.st_uid != os.geteuid():
        raise SettingsError(
            f"{path} belongs to {_user(found.st_uid)}, but this process runs as {_user(os.geteuid())}: it is not used, "
            "as another user may have planted it; run crew as that user, or in a folder without it"
        )


def _link_error(path: Path) -> SettingsError:
    return SettingsError(
        f"{path} is a symbolic link: it is not followed, as another user may have planted it; replace it by the file "
        "or folder that it points to, or delete it"
    )


def _irregular_error(path: Path) -> SettingsError:
    return SettingsError(f"{path} is not a regular file: it is not used, as crew did not create it; delete it")


def _user(id: int) -> str:
    try:
        return f"user {pwd.getpwuid(id).pw_name}"
    except KeyError:
        return f"user {id}"


def _ignore(path: Path, folder: int) -> None:
    """Write a .gitignore that excludes the whole folder, unless one with other content exists."""
    with suppress(OSError, SettingsError):
        descriptor = open_file(path, folder, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, _FILE_MODE)
            if os.fstat(descriptor).st_size == 0:
                file.write(_IGNORE_ALL)
