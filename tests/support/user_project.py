"""The project of a user: the files in the code blocks of docs/how-to/test-your-tasks.md, run by a pytest of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "how-to" / "test-your-tasks.md"
_BLOCK = re.compile(r"```python\n# (?P<name>\S+\.py)\n(?P<code>.*?)```", re.DOTALL)


def write_example(folder: Path) -> list[str]:
    """Write the files of the page into `folder`; returns their names."""
    blocks = list(_BLOCK.finditer(PAGE.read_text()))
    for block in blocks:
        (folder / block["name"]).write_text(block["code"])
    return [block["name"] for block in blocks]


def run_pytest(folder: Path, *arguments: str, plugins: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Run the tests in `folder` with the plugin of crew, as the user of another project does.

    Args:
        plugins: further plugins; pytest loads no others.
    """
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = ignore::DeprecationWarning:pytest_tornado\n")
    names = ("crew.testing.plugin", *plugins)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--crew-hang-after=60"]
    for name in names:
        command += ["-p", name]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
