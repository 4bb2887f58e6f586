"""Runs the file or module on a command line as `python FILE` or `python -m MODULE` does."""

import runpy
import sys
import traceback
import zipfile
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import msgspec

import crew
from crew.errors import SettingsError


class Source(msgspec.Struct, frozen=True):
    """A user's Python file or module.

    Attributes:
        name: as on the command line: a path, or the dotted name of a module.
        file: the path; None for a module.
    """

    name: str
    file: Path | None

    @property
    def folder(self) -> Path:
        """The first folder for its imports: the folder of the file; for a module the working directory."""
        return self.file.absolute().parent if self.file else Path.cwd()

    def run(self, arguments: list[str]) -> None:
        """Run the code as the main program, with `arguments` on its command line.

        Raises:
            SettingsError: the module does not exist.
        """
        sys.argv = [self.name, *arguments]
        sys.path.insert(0, str(self.folder))
        if self.file:
            _run_file(self.file.absolute())
        elif self._spec().submodule_search_locations is None or find_spec(f"{self.name}.__main__"):
            runpy.run_module(self.name, run_name="__main__", alter_sys=True)
        else:
            import_module(self.name)  # a package without __main__.py

    def traceback_of(self, error: Exception) -> str:
        """The traceback of `error` from the user's first frame on, without the frames of crew and Python before it."""
        frames = error.__traceback__
        while frames and not self._is_users(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        return "".join(traceback.format_exception(type(error), error, frames)).rstrip()

    def _is_users(self, filename: str) -> bool:
        if filename.startswith("<"):  # <frozen runpy>
            return False
        return not Path(filename).is_relative_to(Path(crew.__file__).parent) and Path(filename) != Path(runpy.__file__)

    def _spec(self) -> ModuleSpec:
        try:
            spec = find_spec(self.name)
        except ModuleNotFoundError as error:
            if not f"{self.name}.".startswith(f"{error.name}."):
                raise  # a parent package exists, but imports a module that does not
            spec = None
        if spec is None:
            raise SettingsError(f"no file and no module is named {self.name}")
        return spec


def find(name: str) -> Source:
    """The file or module with this name. Whether a module exists is checked when it runs.

    Raises:
        SettingsError: the file does not exist.
    """
    if Path(name).is_file():
        return Source(name, Path(name))
    if name.endswith(".py") or "/" in name:
        raise SettingsError(f"file {name} does not exist")
    return Source(name, None)


def _run_file(path: Path) -> None:
    """Run `path` as the main module, which remains the main module after its last line.

    The path is absolute, so that the same code imported under its own name can be recognized. A file in a package may
    import from its package.
    """
    if zipfile.is_zipfile(path):
        runpy.run_path(str(path), run_name="__main__")
        return
    package, root = _package_of(path.parent)
    if package:
        sys.path.insert(1, str(root))
    loader = SourceFileLoader("__main__", str(path))
    module = ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __package__=package or None, __loader__=loader)
    sys.modules["__main__"] = module
    exec(loader.source_to_code(path.read_bytes(), str(path)), module.__dict__)


def _package_of(folder: Path) -> tuple[str, Path]:
    """The dotted name of the package in `folder` ("": none), and the folder from which that package is imported."""
    names: list[str] = []
    while folder.name.isidentifier() and (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names), folder
