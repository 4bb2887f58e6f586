"""Folders of the repository that tests use."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TASK_FOLDER: Final = ROOT / "tests" / "tasks"  # worker scripts
PROGRAM_FOLDER: Final = ROOT / "tests" / "support" / "programs"  # clients and gateways
