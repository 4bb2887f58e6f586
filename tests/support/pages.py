"""The code of Markdown pages, to be run as written."""

import re
import shlex
from pathlib import Path

from tests.support.paths import ROOT

HOW_TO = ROOT / "docs" / "how-to"
README = ROOT / "README.md"
PORT = 8888  # on the pages; tests use a free port instead
NAME = re.compile(r"# (\w+\.py)\n")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def write_code(page: Path, folder: Path, port: int = PORT) -> None:
    """Write the Python blocks of a page into `folder`: each file has the name in its first line, else script.py."""
    for block in blocks(page, "python"):
        named = NAME.match(block)
        (folder / (named[1] if named else "script.py")).write_text(block.replace(str(PORT), str(port)))


def commands(page: Path) -> list[tuple[list[str], str]]:
    """The shell commands of a page, without the comments behind them, each with the output that the page shows."""
    found = []
    for block in blocks(page, "console"):
        for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            found.append((shlex.split(command, comments=True), output))
    return found
